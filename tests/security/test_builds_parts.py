"""The parts that hold what a builder hands out: counted bytes, counted files, byte code alone, no rights."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from pathlib import Path

import pytest

from images.archive import TooLarge, spool, take_tree
from images.dependencies import Plan
from images.deployment import byte_code
from images.errors import BaseError, InstallError
from images.lines import Lines
from images.privileges import privileged
from images.stock import Missed, Stock, missed, stock, supplied, taken_apart, without
from images.watch import Watch, measure, stretch
from tests.security.attempts import attempt

MIB = 1024**2


def archive(*entries: tuple[str, bytes, dict[str, object]]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data, changes in entries:
            made = tarfile.TarInfo(name)
            made.size = len(data)
            for key, value in changes.items():
                setattr(made, key, value)
            tar.addfile(made, io.BytesIO(data))
    buffer.seek(0)
    return buffer


@attempt("build", "holes of a sparse file, on their way out", "bytes that come out are counted", "build_too_large")
def test_no_more_comes_out_than_is_taken() -> None:
    given = 0

    def zeros() -> object:
        nonlocal given
        for _ in range(64):
            given += 1
            yield bytes(MIB)

    with pytest.raises(TooLarge):
        spool(zeros(), io.BytesIO(), 8 * MIB)
    assert given == 9


def test_what_is_too_much_on_the_disk_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").write_bytes(b"x" * 2 * MIB)
    (tmp_path / "out").symlink_to("/")
    limits = {"most_bytes": 10 * MIB, "most_files": 10}
    assert measure([tmp_path], **limits) == ""
    assert "MiB of disk" in measure([tmp_path], **{**limits, "most_bytes": MIB})
    assert "files" in measure([tmp_path], **{**limits, "most_files": 2})
    assert measure([tmp_path / "none"], **limits) == ""
    deep = tmp_path
    for _ in range(110):
        deep = deep / "d"
    deep.mkdir(parents=True)
    assert "nested deeper" in measure([tmp_path], most_bytes=10 * MIB, most_files=1000)


def test_a_watch_ends_what_takes_too_much_and_looks_once_more_at_the_end(tmp_path: Path) -> None:
    ended = threading.Event()
    watch = Watch([tmp_path], lambda: 0, most_bytes=MIB, most_files=100, end=ended.set)
    (tmp_path / "big").write_bytes(b"x" * 2 * MIB)
    assert ended.wait(30)
    watch.close()
    assert "1 MiB of disk" in watch.overran
    (tmp_path / "big").unlink()
    late = Watch([tmp_path], lambda: 0, most_bytes=MIB, most_files=100, end=lambda: None)
    (tmp_path / "big").write_bytes(b"x" * 2 * MIB)
    late.close()
    assert late.overran


def test_an_engine_whose_directories_are_not_seen_is_asked(tmp_path: Path) -> None:
    ended = threading.Event()
    watch = Watch([], lambda: 2 * MIB, most_bytes=MIB, most_files=100, end=ended.set)
    assert ended.wait(30)
    watch.close()


def test_holes_are_counted_before_they_come_out(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with (tmp_path / "a/holes").open("wb") as file:
        file.truncate(10 * MIB)
    (tmp_path / "a/out").symlink_to("/usr")
    assert stretch(tmp_path, 100 * MIB) // MIB == 10
    assert stretch(tmp_path, MIB) > MIB
    assert stretch(tmp_path / "none", MIB) == 0


def test_lines_count_however_short_they_are() -> None:
    lines = Lines(lambda line: None)
    lines.feed(b"\n" * 1000)
    assert lines.fed > 10_000
    for _ in range(1000):
        lines.feed(b"x")
    assert lines.fed > 40_000


@attempt("build", "files beside byte code from the compiler", "regular .pyc files of a source each", "left out")
def test_only_byte_code_of_the_sources_is_taken() -> None:
    sources = {"/app/a.py", "/app/pkg/b.py"}
    link: dict[str, object] = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}
    given = archive(
        ("compiled/app/a.cpython-311.pyc", b"1", {}),
        ("compiled/app/pkg/b.cpython-311.pyc", b"2", {}),
        ("compiled/app/a.cpython-311.pyc", b"3", {}),
        ("compiled/app/other.cpython-311.pyc", b"4", {}),
        ("compiled/app/a.so", b"5", {}),
        ("compiled/etc/a.cpython-311.pyc", b"6", {}),
        ("compiled/app/../app/a.x.pyc", b"7", {}),
        ("compiled/app/a.link.pyc", b"", link),
        ("compiled/app/a.fifo.pyc", b"", {"type": tarfile.FIFOTYPE}),
        ("elsewhere/app/a.cpython-311.pyc", b"8", {}),
    )
    with tarfile.open(fileobj=given, mode="r|") as tar:
        assert list(byte_code(tar, sources)) == [
            ("app/__pycache__/a.cpython-311.pyc", b"1"),
            ("app/pkg/__pycache__/b.cpython-311.pyc", b"2"),
        ]


@attempt("build", "a device, a pipe and setuid in an environment", "trees are taken without rights", "left out")
def test_a_tree_is_taken_without_devices_and_rights() -> None:
    given = archive(
        ("env/su", b"x", {"mode": 0o6755, "pax_headers": {"SCHILY.xattr.security.capability": "v"}}),
        ("env/disk", b"", {"type": tarfile.BLKTYPE, "devmajor": 8}),
        ("env/tty", b"", {"type": tarfile.CHRTYPE}),
        ("env/pipe", b"", {"type": tarfile.FIFOTYPE}),
    )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        take_tree(given, layer, target="opt/env")
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as tar:
        found = {member.name: (member.mode, dict(member.pax_headers)) for member in tar}
    assert found == {"opt/env/su": (0o755, {})}


def test_files_with_rights_are_put_on_top_without() -> None:
    given = archive(
        ("usr/bin/su", b"su", {"mode": 0o4755, "uid": 0}),
        ("usr/bin/su2", b"", {"type": tarfile.LNKTYPE, "linkname": "usr/bin/su", "mode": 0o4755}),
        ("usr/bin/ping", b"ping", {"mode": 0o755, "pax_headers": {"SCHILY.xattr.security.capability": "v"}}),
        ("usr/bin/cat", b"cat", {"mode": 0o755}),
        ("var/mail", b"", {"type": tarfile.DIRTYPE, "mode": 0o2775, "gid": 8}),
    )
    found = {entry.name: (entry.mode, content, entry.gid) for entry, content in privileged(given)}
    assert found == {
        "usr/bin/su": (0o755, b"su", 0),
        "usr/bin/su2": (0o755, b"su", 0),
        "usr/bin/ping": (0o755, b"ping", 0),
        "var/mail": (0o775, b"", 8),
    }
    assert all(not entry.pax_headers for entry, _ in privileged(archive(("a", b"", {"mode": 0o4755}))))


def test_a_base_full_of_such_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("images.privileges._MOST", 10)
    with pytest.raises(BaseError, match="setuid"):
        privileged(archive(("a", b"x" * 11, {"mode": 0o4755})))


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("ERROR: No matching distribution found for setuptools>=40.8.0", "setuptools>=40.8.0"),
        ("      ERROR: No matching distribution found for Foo_Bar[x]==1 (from hostile)", "foo-bar[x]==1"),
        ("ERROR: No matching distribution found for x @ http://169.254.169.254/latest", None),
        ("ERROR: No matching distribution found for $(id)", None),
        ("ERROR: No matching distribution found for --index-url=http://evil.example", None),
        ("ERROR: No matching distribution found for ../../etc/passwd", None),
        ("ERROR: No matching distribution found for a" + "a" * 1000, None),
        ("all is well", None),
    ],
)
def test_what_a_build_says_it_misses_is_a_name_and_versions(line: str, asked: str | None) -> None:
    """A package's own program may print it: no URL, no option and no path is ever fetched for that."""
    assert missed(["before", line]) == asked


@attempt("build", "a build that misses packages without end", "a number of them", "install_failed")
def test_what_is_missed_without_end_is_ended(tmp_path: Path) -> None:
    got: list[str] = []
    number = iter(range(10**6))

    def work() -> None:
        raise Missed(f"p{next(number)}", InstallError("misses it"))

    with stock(tmp_path, lambda path: None) as made:
        with pytest.raises(InstallError):
            supplied(made, lambda name, _: got.append(name), work)
        assert len(got) <= 100
        with pytest.raises(InstallError, match="misses it"):
            supplied(made, lambda name, _: None, lambda: _raise(Missed("p0", InstallError("misses it"))))
    assert list(tmp_path.iterdir()) == []


def _raise(error: Exception) -> None:
    raise error


@attempt("build", "a wheel that is a link, or lies elsewhere", "regular wheels by their names", "left out")
def test_only_wheels_are_taken_from_a_builder(tmp_path: Path) -> None:
    with stock(tmp_path, lambda path: None) as made:
        given = archive(
            ("made/a-1-py3-none-any.whl", b"1", {}),
            ("made/../../../b-1-py3-none-any.whl", b"2", {}),
            ("made/c-1-py3-none-any.whl", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
            ("made/.hidden.whl", b"3", {}),
            ("made/d.tar.gz", b"4", {}),
        )
        with tarfile.open(fileobj=given, mode="r|") as tar:
            made.take_built(tar)
        assert sorted(path.name for path in made.built.iterdir()) == [
            "a-1-py3-none-any.whl",
            "b-1-py3-none-any.whl",
        ]
        assert not any(path.is_symlink() for path in made.built.iterdir())


def test_requirements_are_taken_apart() -> None:
    lines = taken_apart(
        "--index-url https://i.example/simple\n--pre\n--no-binary six\n--find-links ./links\nsix==1\n"
        "./wheels/a.tar.gz\n./wheels/b-1-py3-none-any.whl\n"
        "c[x] @ git+https://code.example/c@v1#subdirectory=py ; python_version > '3'\n"
        "https://files.example/d-1.tar.gz --hash=sha256:00\n",
        3,
    )
    assert lines.online == [
        "--index-url https://i.example/simple",
        "--pre",
        "--find-links ./links",
        "six==1",
        "./wheels/b-1-py3-none-any.whl",
    ]
    assert lines.offline == [
        "--pre",
        "--no-binary six",
        "--find-links ./links",
        "six==1",
        "./wheels/a.tar.gz",
        "./wheels/b-1-py3-none-any.whl",
        (3, "c[x] @ ", "#subdirectory=py ; python_version > '3'"),
        (4, "", " --hash=sha256:00"),
    ]
    assert lines.sources == ["six"]
    assert without(lines.online, {"six"}) == [line for line in lines.online if line != "six==1"]


def test_a_stock_is_gone_afterwards(tmp_path: Path) -> None:
    with stock(tmp_path, lambda path: None) as made:
        assert isinstance(made, Stock)
        assert os.listdir(tmp_path) == [made.root.name]
    assert os.listdir(tmp_path) == []
    assert Plan().empty
