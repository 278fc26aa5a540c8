"""A project's source on its way: the one reader of archives that everybody has, whoever they come from.

An archive is a tar, plain or gzip, told apart by its first bytes and in no other way: what is one file to the
coordinator is no other to a runner. It has files, directories and symbolic links; a name stands in it once. What a
header says of sizes is not believed, and neither a header nor all of them together take memory without end.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Literal, cast

#: The most that one header may take, with a long name in it: far more than a path can have.
_LARGEST_HEADER = 128 * 1024
#: Global headers of all the archive (`git archive` writes one), together.
_MOST_GLOBAL = 64
#: Bytes of a name, and of a link's target.
MAX_PATH = 1024
#: Times by which the unpacked bytes may be more than the limit on files: headers and padding take some.
_OVERHEAD = 4 * 1024
#: The time of every entry that is written: the same bytes each time, and late enough for zip archives, which know
#: no time before 1980.
FILE_TIME = 315_532_800

Kind = Literal["file", "directory", "link"]


class BadArchive(Exception):
    """The archive is refused; the sentence says which entry, or which limit. `code` is for programs."""

    def __init__(self, message: str, code: str = "bad_source") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


@dataclass(frozen=True)
class Entry:
    """One thing in an archive. `content` is to be read before the next entry is asked for."""

    name: PurePosixPath
    kind: Kind
    size: int = 0
    executable: bool = False
    #: Of a link: where it points, relative to where it lies.
    target: str = ""
    content: IO[bytes] | None = None


class _Capped(io.RawIOBase):
    """A stream that refuses to be read far, or much at a time: tarfile reads a header's extra data whole."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file = file
        self._most = most

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if size < 0 or size > _LARGEST_HEADER:
            raise BadArchive(
                f"one of its headers says {size} bytes, more than the {_LARGEST_HEADER} that any may take"
            )
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence != io.SEEK_SET or offset > self._most:
            raise BadArchive(f"it is larger than {self._most} bytes when unpacked", "source_too_large")
        return self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()


def entries(file: IO[bytes], *, most_bytes: int, most_files: int) -> Iterator[Entry]:
    """What is in the archive `file`, in its order. Raises BadArchive at the entry that is refused.

    `most_bytes` of all files together, `most_files` entries.
    """
    try:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = cast(IO[bytes], gzip.GzipFile(fileobj=file)) if packed else file
        whole = most_bytes + most_files * _OVERHEAD
        # "r:" reads headers one by one and seeks over the rest; the cap sees every read and every seek
        with tarfile.open(fileobj=_Capped(stream, whole), mode="r:") as tar:
            yield from _entries(tar, most_bytes, most_files)
    except RecursionError:
        # tarfile goes deeper with every header that is about another one
        raise BadArchive("it has too many headers in a row") from None
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, OverflowError) as error:
        why = str(error) or type(error).__name__
        raise BadArchive(f"it is no tar, plain or gzip, that can be read: {why}") from None


def _entries(tar: tarfile.TarFile, most_bytes: int, most_files: int) -> Iterator[Entry]:
    written = 0
    names: set[PurePosixPath] = set()
    links: set[PurePosixPath] = set()
    while (member := tar.next()) is not None:
        # tarfile keeps every member it has seen
        tar.members.clear()  # type: ignore[attr-defined]
        if len(tar.pax_headers) > _MOST_GLOBAL:
            raise BadArchive(f"it has more than {_MOST_GLOBAL} global headers")
        name = _name(member)
        if name in names and not member.isdir():
            raise BadArchive(f"{member.name!r} stands in it twice")
        if any(parent in links for parent in name.parents):
            raise BadArchive(f"{member.name!r} would be written through a link, which is refused")
        names.add(name)
        if len(names) > most_files:
            raise BadArchive(
                f"the project has more than {most_files} files; leave some out with .samovarignore",
                "source_too_large",
            )
        written += max(member.size, 0)
        if written > most_bytes:
            raise BadArchive(
                f"the project unpacks to more than {most_bytes // 1024**2} MiB; leave data out with .samovarignore "
                "and bring it by a named mount",
                "source_too_large",
            )
        if member.issym():
            links.add(name)
        yield _entry(tar, member, name)


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo, name: PurePosixPath) -> Entry:
    if member.isdir():
        return Entry(name, "directory")
    if member.issym():
        target = PurePosixPath(member.linkname)
        if target.is_absolute() or not member.linkname:
            raise BadArchive(f"{member.name!r} is a link to {member.linkname!r}, which is out of the project")
        _check_text(member.linkname, "a link's target")
        return Entry(name, "link", target=member.linkname)
    if member.type in {tarfile.REGTYPE, tarfile.AREGTYPE} and not member.issparse():
        content = tar.extractfile(member)
        assert content is not None, "a regular member has content"
        return Entry(name, "file", member.size, bool(member.mode & 0o100), content=content)
    raise BadArchive(
        f"{member.name!r} is a device, a pipe, a hard link or a sparse file, which is refused: pack plain files"
    )


def _name(member: tarfile.TarInfo) -> PurePosixPath:
    _check_text(member.name, "a name")
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or (not name.parts and not member.isdir()):
        raise BadArchive(f"{member.name!r} is a path out of the project, which is refused")
    return name


def _check_text(text: str, what: str) -> None:
    if len(text.encode("utf-8", "surrogateescape")) > MAX_PATH:
        raise BadArchive(f"{what} in it has more than {MAX_PATH} bytes: {text[:80]!r}…")
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in text):
        raise BadArchive(f"{what} in it has control characters: {text[:200]!r}")


class Writer:
    """Writes an archive that `entries` reads: the same entries give the same bytes."""

    def __init__(self, target: IO[bytes]) -> None:
        self._packed = gzip.GzipFile(fileobj=target, mode="wb", compresslevel=6, mtime=0, filename="")
        # closed by close(): the archive is written by many calls
        self._tar = tarfile.open(  # noqa: SIM115
            fileobj=self._packed, mode="w", format=tarfile.PAX_FORMAT
        )

    def add(self, entry: Entry) -> None:
        """Copies an entry, with its content and no more of its header than everybody agrees on."""
        info = tarfile.TarInfo(entry.name.as_posix())
        info.mtime = FILE_TIME
        if entry.kind == "directory":
            info.type, info.mode = tarfile.DIRTYPE, 0o755
        elif entry.kind == "link":
            info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, entry.target
        else:
            info.size, info.mode = entry.size, 0o755 if entry.executable else 0o644
        try:
            self._tar.addfile(info, entry.content)
        except OSError as error:
            # tarfile's own; what the disk says has a number
            if error.errno is not None:
                raise
            raise BadArchive(f"it ends in the middle of {entry.name.as_posix()!r}") from None

    def close(self) -> None:
        """Ends the archive."""
        self._tar.close()
        self._packed.close()
