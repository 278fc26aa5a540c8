"""Archives that lie: what one part takes for a project, no other takes for another, and none grows on the way."""

from __future__ import annotations

import gzip
import io
import lzma
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from images.errors import SourceError
from images.project import read_project
from images.settings import ImageSettings
from tests.security.attempts import attempt
from tests.unit.coordinator.conftest import Api

GIB = 1024**3
CONFIG = b'[project]\nname = "shop"\ntasks = ["tasks"]\n'
OTHER = b'[project]\nname = "victim"\ntasks = ["tasks"]\n'
Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, data: bytes = b"", **changes: object) -> Member:
    made = tarfile.TarInfo(name)
    made.size = len(data)
    for key, value in changes.items():
        setattr(made, key, value)
    return made, data


def packed(*members: Member) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for made, data in members:
            tar.addfile(made, io.BytesIO(data))
    return buffer.getvalue()


def project(*members: Member) -> bytes:
    return packed(member("samovar.toml", CONFIG), *members)


def header(kind: bytes, size: int) -> bytes:
    """The header alone of an entry that claims `size` bytes."""
    made = tarfile.TarInfo("x")
    made.type, made.size = kind, size
    return made.tobuf(tarfile.GNU_FORMAT)


def link(name: str, kind: bytes, target: str) -> Member:
    return member(name, type=kind, linkname=target)


PLAIN = project()
VICTIM = packed(member("samovar.toml", OTHER))


def both() -> bytes:
    """A tar whose first bytes are xz's: the name of its first entry is how another archive begins, in xz."""
    hidden = lzma.compress(VICTIM)
    made = tarfile.TarInfo("x")
    made.size = len(hidden)
    block = bytearray(made.tobuf())
    block[:100] = hidden[:100]
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + hidden + bytes(-len(hidden) % 512) + PLAIN


def global_headers(count: int) -> bytes:
    buffer = io.BytesIO()
    for n in range(count):
        # a record says its own length
        length = 0
        while len(record := b"%d k%d=%s\n" % (length, n, b"v" * 1000)) != length:
            length = len(record)
        made = tarfile.TarInfo("g")
        made.type, made.size = tarfile.XGLTYPE, len(record)
        buffer.write(made.tobuf() + record + bytes(-len(record) % 512))
    return buffer.getvalue() + PLAIN


SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1024**4)}
NEGATIVE = bytearray(header(tarfile.REGTYPE, 0))
NEGATIVE[124:136] = b"\xff" * 12
#: Made when they are tried: every process that collects the tests has this module.
REFUSED: dict[str, Callable[[], bytes]] = {
    "a tar in xz": lambda: lzma.compress(PLAIN),
    "a pax header of a gigabyte": lambda: header(tarfile.XHDTYPE, GIB),
    "a long name of a gigabyte": lambda: header(tarfile.GNUTYPE_LONGNAME, GIB),
    "a long link of a gigabyte": lambda: header(tarfile.GNUTYPE_LONGLINK, GIB),
    "ten thousand global headers": lambda: global_headers(10_000),
    "a name of 100 KB": lambda: project(member("n" * 100_000)),
    "a link's target of 100 KB": lambda: project(link("l", tarfile.SYMTYPE, "n" * 100_000)),
    "a sparse file of a terabyte": lambda: project(member("big", pax_headers=SPARSE)),
    "a second samovar.toml": lambda: project(member("samovar.toml", OTHER)),
    "a second one as ./samovar.toml": lambda: project(member("./samovar.toml", OTHER)),
    "a second one as a//../samovar.toml": lambda: project(member("a//../samovar.toml", OTHER)),
    "a link in its place": lambda: packed(link("samovar.toml", tarfile.SYMTYPE, "/etc/passwd")),
    "a block device": lambda: project(member("d", type=tarfile.BLKTYPE)),
    "a character device": lambda: project(member("d", type=tarfile.CHRTYPE)),
    "a hard link": lambda: project(link("h", tarfile.LNKTYPE, "samovar.toml")),
    "a pipe": lambda: project(member("p", type=tarfile.FIFOTYPE)),
    "an entry of an unknown kind": lambda: project(member("u", type=b"Z")),
    "a path out of it": lambda: project(member("../evil", b"x")),
    "an absolute path": lambda: project(member("/etc/cron.d/evil", b"x")),
    "a link out of it": lambda: project(link("l", tarfile.SYMTYPE, "/etc")),
    "a file through a link": lambda: project(link("l", tarfile.SYMTYPE, "."), member("l/x", b"x")),
    "control characters in a name": lambda: project(member("a\x1b[2Jb", b"x")),
    "a negative size": lambda: bytes(NEGATIVE),
    "a file of 60 GB": lambda: header(tarfile.REGTYPE, 60 * GIB),
    "fifty thousand empty files": lambda: project(*(member(f"f{n}") for n in range(50_001))),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=attempt("build", f"upload {name}", "one reader of archives", "422, 413"))
        for name in REFUSED
    ],
)
def test_an_archive_that_lies_is_refused_by_both(api: Api, tmp_path: Path, name: str) -> None:
    content = REFUSED[name]()
    answer = api.upload(content)
    assert answer.status_code in {413, 422}, answer.text
    assert api.admin.get("/api/v1/deployments").json()["items"] == []
    path, out = tmp_path / "source", tmp_path / "out"
    path.write_bytes(content)
    out.mkdir()
    with pytest.raises(SourceError):
        read_project(path, out, "shop", ImageSettings())
    assert [found for found in tmp_path.glob("*") if found not in {path, out, tmp_path / "data"}] == []


@attempt("build", "one archive that is two projects by its compression", "one reader of archives", "one or none")
@pytest.mark.parametrize("content", [lzma.compress(VICTIM), both(), gzip.compress(both())], ids=["xz", "b", "gz"])
def test_what_is_xz_to_one_and_tar_to_another_is_one_thing(api: Api, tmp_path: Path, content: bytes) -> None:
    """Whatever the coordinator calls it, a runner gets that or nothing."""
    answer = api.upload(content)
    if answer.status_code != 201:
        assert answer.status_code == 422
        return
    made = answer.json()
    path, out = tmp_path / "source", tmp_path / "out"
    path.write_bytes(api.runner.get(f"/internal/v1/builds/{made['id']}/source").content)
    out.mkdir()
    config, _ = read_project(path, out, made["project"], ImageSettings())
    assert config.project.name == made["project"] == "shop"


@attempt("build", "a source that builds as another project", "the name is the coordinator's", "refused")
def test_a_runner_refuses_a_source_of_another_project(tmp_path: Path) -> None:
    path, out = tmp_path / "source", tmp_path / "out"
    path.write_bytes(VICTIM)
    out.mkdir()
    with pytest.raises(SourceError, match="the source of 'victim', and the build is one of 'shop'"):
        read_project(path, out, "shop", ImageSettings())


@attempt("build", "a header of a megabyte that is really there", "cap of a header", "not read")
def test_a_header_is_not_read_to_its_end(api: Api) -> None:
    name = b"n" * 1024**2
    content = header(tarfile.GNUTYPE_LONGNAME, len(name)) + name + project()
    answer = api.upload(content)
    assert answer.status_code == 422
    # and not of the name: to know that, it would have been read
    assert "one of its headers says 1048576 bytes" in answer.text


@attempt("build", "a small upload of gigabytes of headers", "a process with limits of its own", "< 512 MiB")
def test_reading_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tar.gz"
    record = b"30 comment=" + b"x" * 100_000
    made = tarfile.TarInfo("g")
    made.type, made.size = tarfile.XGLTYPE, len(record)
    one = made.tobuf() + record + bytes(-len(record) % 512)
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(2000):
            file.write(one)
    assert path.stat().st_size < 2 * 1024**2
    command = [sys.executable, "-m", "coordinator.deployments.repack", path, tmp_path / "out", "1000000"]
    code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:]); "
    code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    said = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True).stdout
    answer, peak = said.strip().splitlines()
    assert "code" in answer
    assert int(peak) < 256 * 1024  # KiB
