"""An image as an archive that an engine loads: the layers it has already by name only, and one new layer.

Docker's own way to add a layer is to commit a container, for which some storage drivers compare every file
of the image with the one below: seconds, for a change of one line. Loading asks for nothing of the sort, and
holds exactly what was put into the layer: what else happened in a builder is not in it.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any


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


def write_archive(
    target: IO[bytes], *, name: str, parent: dict[str, Any], layer: IO[bytes], config: ImageConfig
) -> str:
    """Write to `target` the archive of an image `name`: `parent` (as inspected) and the tar `layer` on it.

    Gives the id that the image will have, `sha256:…`.
    """
    layer.seek(0)
    difference = "sha256:" + hashlib.file_digest(layer, "sha256").hexdigest()  # type: ignore[arg-type]
    size = layer.tell()
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
    manifest = [{"Config": f"{identifier}.json", "RepoTags": [name], "Layers": files}]
    layer.seek(0)
    with tarfile.open(fileobj=target, mode="w") as tar:
        for path, data, length in (
            (f"{identifier}.json", io.BytesIO(document), len(document)),
            (files[-1], layer, size),
            ("manifest.json", io.BytesIO(text := json.dumps(manifest).encode()), len(text)),
        ):
            entry = tarfile.TarInfo(path)
            entry.size = length
            tar.addfile(entry, data)
    target.seek(0)
    return f"sha256:{identifier}"


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
