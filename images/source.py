"""The source of a project: a tar archive from somebody, unpacked without trusting it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from coordinator.archive import FILE_TIME, BadArchive, Entry, entries
from images.errors import SourceError


def unpack(archive: Path, target: Path, *, most_bytes: int, most_files: int) -> None:
    """Unpack the archive at `archive` into the empty directory `target`.

    Files, directories and symbolic links that stay inside are taken; ownership, special modes and times are
    not. Raises SourceError naming the entry that is refused, or the limit that is passed.
    """
    links: list[PurePosixPath] = []
    try:
        with archive.open("rb") as file:
            # one by one, so that the limits hold before the bytes are on the disk
            for entry in entries(file, most_bytes=most_bytes, most_files=most_files):
                _take(entry, target, links)
    except BadArchive as error:
        code = "source_too_large" if error.code == "source_too_large" else None
        raise SourceError(f"the archive of the project cannot be unpacked: {error.message}", code=code) from None
    except OSError as error:
        raise SourceError(f"the archive of the project cannot be unpacked: {error}") from None
    # what a chain of links comes to is only known when all of them are there
    inside = os.path.realpath(target) + os.sep
    for link in links:
        if not (os.path.realpath(target / link) + os.sep).startswith(inside):
            raise SourceError(f"{str(link)!r} is a link that leads out of the project")


def _take(entry: Entry, target: Path, links: list[PurePosixPath]) -> None:
    path = target / entry.name
    if entry.kind == "directory":
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if entry.kind == "link":
        links.append(entry.name)
        path.symlink_to(entry.target)
        return
    assert entry.content is not None, "a file has content"
    with path.open("xb") as file:
        shutil.copyfileobj(entry.content, file)
        os.fchmod(file.fileno(), 0o755 if entry.executable else 0o644)


def files(root: Path) -> Iterator[Path]:
    """Every file, link and directory below `root`, parents first, always in the same order."""
    with os.scandir(root) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = Path(entry.path)
            yield path
            if entry.is_dir(follow_symlinks=False):
                yield from files(path)


def code_files(root: Path) -> list[Path]:
    """What of a source tree belongs into an image: everything but byte code and version control."""
    kept: list[Path] = []
    for path in files(root):
        parts = path.relative_to(root).parts
        if "__pycache__" in parts or parts[0] == ".git" or path.suffix == ".pyc":
            continue
        kept.append(path)
    return kept


def fingerprint(root: Path, paths: list[Path]) -> Iterator[bytes]:
    """Parts to hash: each path's name, kind and content. What is not in an image is not in here."""
    for path in paths:
        yield path.relative_to(root).as_posix().encode("utf-8", "surrogateescape")
        if path.is_symlink():
            yield b"link"
            yield os.readlink(path).encode("utf-8", "surrogateescape")
        elif path.is_dir():
            yield b"directory"
        else:
            yield b"program" if path.stat().st_mode & 0o100 else b"file"
            with path.open("rb") as file:
                yield hashlib.file_digest(file, "sha256").digest()


class Layer:
    """A tar archive to put into a container: the same entries give the same bytes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        # closed by close(): the archive is written by many calls
        self.tar = tarfile.open(  # noqa: SIM115
            fileobj=stream, mode="w", format=tarfile.PAX_FORMAT
        )
        self._directories: set[str] = set()

    def directory(self, name: str, *, uid: int = 0, mode: int = 0o755) -> None:
        """The directory `name`, and those above it that this archive has not named yet."""
        for parent in reversed(PurePosixPath(name).parents):
            if str(parent) not in {".", "/"} and str(parent) not in self._directories:
                self._entry(str(parent), tarfile.DIRTYPE, 0o755, 0)
                self._directories.add(str(parent))
        if name not in self._directories:
            self._entry(name, tarfile.DIRTYPE, mode, uid)
            self._directories.add(name)

    def file(self, name: str, data: bytes, *, mode: int = 0o644) -> None:
        """The file `name` with `data`."""
        entry = self._member(name, tarfile.REGTYPE, mode, 0)
        entry.size = len(data)
        self.tar.addfile(entry, io.BytesIO(data))

    def tree(self, name: str, root: Path, paths: list[Path]) -> None:
        """`paths`, all below `root`, under the directory `name`."""
        self.directory(name)
        for path in paths:
            target = f"{name}/{path.relative_to(root).as_posix()}"
            if path.is_symlink():
                entry = self._member(target, tarfile.SYMTYPE, 0o777, 0)
                entry.linkname = os.readlink(path)
                self.tar.addfile(entry)
            elif path.is_dir():
                self.directory(target)
            else:
                mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
                entry = self._member(target, tarfile.REGTYPE, mode, 0)
                with path.open("rb") as stream:
                    entry.size = os.fstat(stream.fileno()).st_size
                    self.tar.addfile(entry, stream)

    @contextlib.contextmanager
    def so_far(self) -> Iterator[IO[bytes]]:
        """What was added until now, to be read; more can be added afterwards."""
        end = self._stream.tell()
        self._stream.seek(0)
        try:
            yield self._stream
        finally:
            self._stream.seek(end)

    def close(self) -> None:
        """End the archive and go back to its first byte."""
        self.tar.close()
        self._stream.seek(0)

    def _entry(self, name: str, kind: bytes, mode: int, uid: int) -> None:
        self.tar.addfile(self._member(name, kind, mode, uid))

    @staticmethod
    def _member(name: str, kind: bytes, mode: int, uid: int) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(name.lstrip("/"))
        entry.type, entry.mode, entry.uid, entry.gid, entry.mtime = kind, mode, uid, uid, FILE_TIME
        return entry
