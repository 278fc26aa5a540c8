"""A project's archive comes from somebody: nothing of it may land outside, or grow without end."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from images.errors import SourceError
from images.source import Layer, code_files, fingerprint, unpack


def archive(path: Path, *entries: tuple[str, bytes | None, Callable[[tarfile.TarInfo], None] | None]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data, change in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(data or b"")
            if change:
                change(entry)
            tar.addfile(entry, io.BytesIO(data or b""))
    return path


def link(target: str, kind: bytes = tarfile.SYMTYPE) -> Callable[[tarfile.TarInfo], None]:
    def change(entry: tarfile.TarInfo) -> None:
        entry.type, entry.linkname = kind, target

    return change


def kind(value: bytes) -> Callable[[tarfile.TarInfo], None]:
    def change(entry: tarfile.TarInfo) -> None:
        entry.type = value

    return change


def take(tmp_path: Path, *entries, most_bytes: int = 10_000, most_files: int = 100) -> Path:
    target = tmp_path / "out"
    target.mkdir()
    unpack(archive(tmp_path / "a.tar.gz", *entries), target, most_bytes=most_bytes, most_files=most_files)
    return target


def test_files_directories_and_links_inside_are_taken(tmp_path) -> None:
    def program(entry: tarfile.TarInfo) -> None:
        entry.mode, entry.uid = 0o4755, 1234

    out = take(
        tmp_path,
        ("samovar.toml", b"x", None),
        ("./pkg/deep/a.py", b"a", None),
        ("run.sh", b"#!", program),
        ("pkg/b.py", None, link("deep/a.py")),
        ("here", None, link(".")),
    )
    assert (out / "pkg/b.py").read_bytes() == b"a"
    assert (out / "here").resolve() == out.resolve()
    assert (out / "run.sh").stat().st_mode & 0o7777 == 0o755
    assert (out / "samovar.toml").stat().st_mode & 0o7777 == 0o644


@pytest.mark.parametrize(
    "entries",
    [
        [("../evil", b"x", None)],
        [("/etc/evil", b"x", None)],
        [("a/../../evil", b"x", None)],
        [("out", None, link("/etc"))],
        [("out", None, link("../.."))],
        [("d", None, link(".")), ("d/evil", b"x", None)],
        [("a/b", None, link("..")), ("a/c", None, link("b/.."))],
        [("passwd", None, link("/etc/passwd", tarfile.LNKTYPE))],
        [("disk", None, kind(tarfile.BLKTYPE))],
        [("pipe", None, kind(tarfile.FIFOTYPE))],
        [("same", b"1", None), ("same", b"2", None)],
    ],
    ids=lambda entries: entries[-1][0] + f"-{len(entries)}",
)
def test_what_leads_out_is_refused(tmp_path, entries) -> None:
    before = set(tmp_path.parent.iterdir())
    with pytest.raises(SourceError):
        take(tmp_path, *entries)
    assert set(tmp_path.parent.iterdir()) == before
    assert not (tmp_path / "evil").exists()


def test_a_small_archive_that_unpacks_to_much_is_stopped(tmp_path) -> None:
    with pytest.raises(SourceError, match="MiB"):
        take(tmp_path, ("big", b"\0" * 5_000_000, None), most_bytes=1024 * 1024)
    assert not (tmp_path / "out/big").exists()


def test_too_many_files_are_stopped(tmp_path) -> None:
    with pytest.raises(SourceError, match="more than 5 files"):
        take(tmp_path, *[(f"f{n}", b"", None) for n in range(6)], most_files=5)


@pytest.mark.parametrize("data", [b"", b"not a tar", b"\x1f\x8b\x08\x00truncated"])
def test_what_is_no_archive_is_said_so(tmp_path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(SourceError, match="cannot be unpacked"):
        unpack(tmp_path / "a", tmp_path, most_bytes=1, most_files=1)


def test_the_fingerprint_changes_with_content_name_and_mode(tmp_path) -> None:
    def parts() -> list[bytes]:
        return list(fingerprint(tmp_path, code_files(tmp_path)))

    (tmp_path / "a.py").write_text("1")
    first = parts()
    assert parts() == first
    (tmp_path / "a.py").write_text("2")
    second = parts()
    (tmp_path / "a.py").chmod(0o755)
    third = parts()
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert len({tuple(p) for p in (first, second, third, parts())}) == 4


def test_byte_code_and_git_are_no_code(tmp_path) -> None:
    for name in (".git/HEAD", "pkg/__pycache__/a.pyc", "pkg/a.py", "old.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert [path.name for path in code_files(tmp_path)] == ["pkg", "a.py"]


def test_a_layer_is_the_same_bytes_each_time(tmp_path) -> None:
    (tmp_path / "a.py").write_text("1")

    def layer() -> bytes:
        stream = io.BytesIO()
        made = Layer(stream)
        made.tree("app", tmp_path, code_files(tmp_path))
        made.file("opt/manifest.json", b"{}")
        made.close()
        return stream.getvalue()

    first = layer()
    (tmp_path / "a.py").touch()
    assert layer() == first
