"""An image as an archive that an engine loads: the layers it has already by name only, and one new layer.

Docker's own way to add a layer is to commit a container, for which some storage drivers compare every file
of the image with the one below: seconds, for a change of one line. Loading asks for nothing of the sort, and
holds exactly what was put into the layer: what else happened in a builder is not in it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from coordinator.archive import FILE_TIME
from images.errors import BuildError

#: Bytes that an archive is handed on by.
_PIECE = 1024 * 1024


@dataclass(frozen=True)
class ImageConfig:
    """How an image's containers start, and what it is labelled with."""

    labels: dict[str, str]
    environment: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    user: str = "0:0"
    directory: str = "/"

    def document(self) -> dict[str, Any]:
        """The `config` of the image, as the engine writes it."""
        return {
            "Labels": self.labels,
            "Env": self.environment,
            "Entrypoint": self.entrypoint,
            "Cmd": [] if self.entrypoint else ["/bin/sh"],
            "User": self.user,
            "WorkingDir": self.directory,
            "Healthcheck": {"Test": ["NONE"]},
        }


@dataclass(frozen=True)
class Packed:
    """A finished layer: the file it lies in, its digest as the engine names it, its bytes."""

    stream: IO[bytes]
    digest: str
    size: int

    @classmethod
    def of(cls, stream: IO[bytes]) -> Packed:
        stream.seek(0)
        digest = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
        return cls(stream, f"sha256:{digest}", stream.seek(0, os.SEEK_END))


def archive_of(
    *, name: str | None, parent: dict[str, Any], layers: Sequence[Packed], there: int = 0, config: ImageConfig
) -> tuple[str, Iterator[bytes]]:
    """The archive of an image `name`: `parent` (as inspected) and `layers` on it, of which the engine has the first
    `there` already.

    Gives the id that the image will have, `sha256:…`, and the archive in pieces, which read the layers as they go:
    a copy of hundreds of megabytes would be written for nothing.
    """
    digests = [*parent["RootFS"]["Layers"], *(layer.digest for layer in layers)]
    document = json.dumps(
        {
            "architecture": parent["Architecture"],
            "os": parent["Os"],
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "config": config.document(),
            "rootfs": {"type": "layers", "diff_ids": digests},
            "history": [{"created_by": "samovar"} for _ in digests],
        },
        sort_keys=True,
    ).encode()
    identifier = hashlib.sha256(document).hexdigest()
    files = [_file(digest) for digest in digests]
    tags = [name] if name is not None else None
    manifest = json.dumps([{"Config": f"{identifier}.json", "RepoTags": tags, "Layers": files}]).encode()
    parts: list[tuple[str, IO[bytes], int]] = [
        (f"{identifier}.json", io.BytesIO(document), len(document)),
        *((_file(layer.digest), layer.stream, layer.size) for layer in layers[there:]),
        ("manifest.json", io.BytesIO(manifest), len(manifest)),
    ]
    return f"sha256:{identifier}", _pieces(parts)


def _file(digest: str) -> str:
    return f"{digest.removeprefix('sha256:')}/layer.tar"


def _pieces(parts: list[tuple[str, IO[bytes], int]]) -> Iterator[bytes]:
    """A tar archive of the files `parts`: names, contents, bytes."""
    for path, content, size in parts:
        entry = tarfile.TarInfo(path)
        entry.size = size
        yield entry.tobuf()
        content.seek(0)
        while piece := content.read(_PIECE):
            yield piece
        yield bytes(-size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def take_tree(archive: IO[bytes], layer: tarfile.TarFile, *, target: str, only: str = "") -> int:
    """Copy the tar `archive`, whose names start with one directory, into `layer` below `target`.

    Owners become root, modes lose what others may write, and gain what others need to read; times stay, because
    byte code names its source's. With `only`, just the files with that ending. Gives how many files there were.
    """
    files = 0
    with tarfile.open(fileobj=archive, mode="r|") as tar:
        for member in tar:
            inner = member.name.partition("/")[2]
            if only and not (member.isreg() and inner.endswith(only)):
                continue
            entry = tarfile.TarInfo(f"{target}/{inner}".rstrip("/"))
            entry.type, entry.mtime, entry.size = member.type, int(member.mtime), member.size
            entry.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            content = None
            if member.issym():
                entry.linkname, entry.mode = member.linkname, 0o777
            elif member.islnk():
                entry.linkname = f"{target}/{member.linkname.partition('/')[2]}"
            elif member.isreg():
                content = tar.extractfile(member)
                files += 1
            elif not member.isdir():
                # a pipe or a socket that somebody's setup.py left
                continue
            layer.addfile(entry, content)
    return files


def pack_tree(
    root: Path,
    layer: tarfile.TarFile,
    target: str,
    most: int,
    wanted: Callable[[str, bool], bool] = lambda path, compiled: True,
) -> int:
    """Add the directory `root` of the host to `layer` as `target`, as `take_tree` does with an archive.

    `wanted` says of each file, by its path below `root` and whether it is byte code in a `__pycache__`, if it is;
    the directories of those that are come along.

    A builder filled it, and has ended: links are taken as links and never followed, a file with several names comes
    once for each of them. Every time is one, so that the same files give the same layer. Gives how many files there
    were; raises BuildError where they are of over `most` bytes together, with the holes of sparse ones.
    """
    files, left = 0, most
    named = {""}
    layer.addfile(_entry(target, tarfile.DIRTYPE, 0o755))

    def lead_to(path: str) -> None:
        if path not in named:
            lead_to(path.rpartition("/")[0])
            named.add(path)
            layer.addfile(_entry(f"{target}/{path}", tarfile.DIRTYPE, 0o755))

    ahead = [""]
    while ahead:
        directory = ahead.pop()
        with os.scandir(root / directory) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        compiled = directory.rpartition("/")[2] == "__pycache__"
        for entry in entries:
            inner = f"{directory}/{entry.name}".lstrip("/")
            if entry.is_dir(follow_symlinks=False):
                ahead.append(inner)
                continue
            if not wanted(inner, compiled):
                continue
            lead_to(directory)
            if entry.is_symlink():
                link = _entry(f"{target}/{inner}", tarfile.SYMTYPE, 0o777)
                link.linkname = os.readlink(entry.path)
                layer.addfile(link)
            elif entry.is_file():
                with open(os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
                    state = os.fstat(file.fileno())
                    left -= state.st_size
                    if left < 0:
                        raise too_large(most)
                    made = _entry(f"{target}/{inner}", tarfile.REGTYPE, 0o755 if state.st_mode & 0o100 else 0o644)
                    made.size = state.st_size
                    layer.addfile(made, file)
                files += 1
    return files


def large_parts(root: Path, least: int) -> set[str]:
    """The directories right in a `site-packages` below `root` whose files are of `least` bytes and more, byte code
    left out: by their paths below `root`.
    """
    sizes: dict[str, int] = {}
    for directory, names, files in os.walk(root):
        names[:] = [name for name in names if name != "__pycache__"]
        inner = os.path.relpath(directory, root)
        before, packages, after = inner.partition("site-packages/")
        if packages:
            part = f"{before}{packages}{after.partition('/')[0]}"
            for name in files:
                sizes[part] = sizes.get(part, 0) + os.lstat(os.path.join(directory, name)).st_size
    return {part for part, size in sizes.items() if size >= least}


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.mtime = kind, mode, FILE_TIME
    return entry


def too_large(most: int) -> BuildError:
    """What is said where a build made more than is taken of it."""
    return BuildError(
        f"what was built is larger than the {most // 1024**2} MiB that are taken of it, with the holes "
        "of sparse files; install less, or ask the operator for more (build_disk)",
        code="build_too_large",
    )


class TooLarge(Exception):
    """More bytes came out of a container than are taken."""


def spool(chunks: Any, target: IO[bytes], most: int) -> IO[bytes]:
    """Write `chunks` to `target` and go back to its first byte. Raises TooLarge past `most` bytes."""
    taken = 0
    for chunk in chunks:
        taken += len(chunk)
        if taken > most:
            target.close()
            raise TooLarge
        target.write(chunk)
    target.seek(0)
    return target
