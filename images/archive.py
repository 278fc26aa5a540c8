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
from collections.abc import Iterator
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


def archive_of(
    *, name: str | None, parent: dict[str, Any], layer: IO[bytes], config: ImageConfig
) -> tuple[str, Iterator[bytes]]:
    """The archive of an image `name`: `parent` (as inspected) and the tar `layer` on it.

    Gives the id that the image will have, `sha256:…`, and the archive in pieces, which read the layer as they go: a
    copy of hundreds of megabytes would be written for nothing.
    """
    layer.seek(0)
    difference = "sha256:" + hashlib.file_digest(layer, "sha256").hexdigest()  # type: ignore[arg-type]
    size = layer.seek(0, os.SEEK_END)
    layers = [*parent["RootFS"]["Layers"], difference]
    document = json.dumps(
        {
            "architecture": parent["Architecture"],
            "os": parent["Os"],
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "config": config.document(),
            "rootfs": {"type": "layers", "diff_ids": layers},
            "history": [{"created_by": "samovar"} for _ in layers],
        },
        sort_keys=True,
    ).encode()
    identifier = hashlib.sha256(document).hexdigest()
    files = [f"{layer_id.removeprefix('sha256:')}/layer.tar" for layer_id in layers]
    manifest = json.dumps(
        [{"Config": f"{identifier}.json", "RepoTags": [name] if name else None, "Layers": files}]
    ).encode()
    parts: list[tuple[str, IO[bytes], int]] = [
        (f"{identifier}.json", io.BytesIO(document), len(document)),
        (files[-1], layer, size),
        ("manifest.json", io.BytesIO(manifest), len(manifest)),
    ]
    return f"sha256:{identifier}", _pieces(parts)


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


def pack_tree(root: Path, layer: tarfile.TarFile, target: str, most: int, *, byte_code: bool) -> int:
    """Add the directory `root` of the host to `layer` as `target`, as `take_tree` does with an archive.

    With `byte_code` what lies in directories `__pycache__` alone, and the directories that lead there; without it
    all but those.

    A builder filled it, and has ended: links are taken as links and never followed, a file with several names comes
    once for each of them. Every time is one, so that the same files give the same layer. Gives how many files there
    were; raises BuildError where they are of over `most` bytes together, with the holes of sparse ones.
    """
    files, left = 0, most
    ahead = [(str(root), target)]
    layer.addfile(_entry(target, tarfile.DIRTYPE, 0o755))
    while ahead:
        directory, name = ahead.pop()
        with os.scandir(directory) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            inner = f"{name}/{entry.name}"
            compiled = name.endswith("/__pycache__")
            if entry.is_dir(follow_symlinks=False):
                if byte_code or entry.name != "__pycache__":
                    layer.addfile(_entry(inner, tarfile.DIRTYPE, 0o755))
                    ahead.append((entry.path, inner))
            elif compiled != byte_code:
                continue
            elif entry.is_symlink():
                link = _entry(inner, tarfile.SYMTYPE, 0o777)
                link.linkname = os.readlink(entry.path)
                layer.addfile(link)
            elif entry.is_file():
                with open(os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
                    state = os.fstat(file.fileno())
                    left -= state.st_size
                    if left < 0:
                        raise too_large(most)
                    made = _entry(inner, tarfile.REGTYPE, 0o755 if state.st_mode & 0o100 else 0o644)
                    made.size = state.st_size
                    layer.addfile(made, file)
                files += 1
    return files


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
