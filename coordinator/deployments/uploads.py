"""The uploaded source of a deployment: only the project's name is read here, and nothing is unpacked.

The archive is whatever somebody sent: sizes in its headers are not believed, and what it may grow to while
it is read is capped.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import tomllib
import zlib
from pathlib import Path
from typing import IO, cast

from coordinator.foundation.errors import Invalid, invalid_field

_CONFIG = "samovar.toml"
_LARGEST_CONFIG = 1024 * 1024
#: Unpacked bytes that are read in search of samovar.toml.
_LARGEST = 4 * 1024**3
#: The most that one header of the archive may take.
_LARGEST_READ = 2 * 1024 * 1024
_PROJECT = re.compile(r"[a-z0-9]+(?:[-_.][a-z0-9]+)*")


class _Capped(io.RawIOBase):
    """A stream that refuses to be read far, or much at a time."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if size < 0 or size > _LARGEST_READ:
            raise _bad(f"one of its headers says {size} bytes")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence != io.SEEK_SET or offset > _LARGEST:
            raise _bad(f"it is larger than {_LARGEST} bytes when unpacked")
        return self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()


def project_name(path: Path) -> str:
    """`[project] name` of the samovar.toml at the top of a tar, plain or gzip. Raises Invalid."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            text = _find(cast(IO[bytes], gzip.GzipFile(fileobj=file)) if packed else file)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise _bad(str(error) or type(error).__name__) from None
    try:
        table = tomllib.loads(text.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid_field(_CONFIG, f"is not TOML: {error}") from None
    project = table.get("project")
    name = project.get("name") if isinstance(project, dict) else None
    if not isinstance(name, str):
        raise invalid_field("project.name", f'missing in {_CONFIG}: write [project] and name = "…"')
    if len(name) > 63 or not _PROJECT.fullmatch(name):
        raise invalid_field(
            "project.name",
            f"{name[:80]!r} is no project name: lower-case letters, digits, and single '-', '_' or '.' between "
            "them, 63 at most",
        )
    return name


def _find(stream: IO[bytes]) -> bytes:
    # "r:" reads headers one by one and seeks over the rest; the cap sees every read and every seek
    with tarfile.open(fileobj=_Capped(stream), mode="r:") as archive:
        for member in archive:
            if member.name.removeprefix("./") != _CONFIG:
                continue
            if not member.isfile() or member.size > _LARGEST_CONFIG:
                raise invalid_field(_CONFIG, f"has to be a file of at most {_LARGEST_CONFIG} bytes")
            content = archive.extractfile(member)
            assert content is not None  # a regular file has content
            return content.read()
    raise invalid_field(_CONFIG, "not in the archive: it belongs at its top")


def _bad(why: str) -> Invalid:
    return Invalid(f"the source is no tar that can be read: {why}", code="bad_source")
