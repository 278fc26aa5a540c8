"""Files to and from the coordinator: sent in parts, gone on with where they broke off."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Protocol
from urllib.parse import quote

from samovar.errors import FileMissing

#: Bytes of a part, and of a step of reading.
PART = 4 * 1024 * 1024
#: Seconds of tries without getting on, and between two.
_PATIENCE = 30.0
_PAUSE = 0.5


class Unfinished(Exception):
    """The coordinator did not answer, or not to the end: the same is asked again."""


class Way(Protocol):
    """How the coordinator is asked. Each raises Unfinished, or what a refusal is there."""

    def announce(self, body: dict[str, Any], project: str | None) -> dict[str, Any]:
        """POST /files."""
        ...

    def known(self, file: str) -> dict[str, Any]:
        """GET /files/{id}."""
        ...

    def send_part(self, file: str, offset: int, data: bytes) -> dict[str, Any] | None:
        """PATCH /files/{id}; None where that is not where the file ends (409)."""
        ...

    def read_from(self, path: str, offset: int) -> Iterator[bytes]:
        """GET of a file's content, from `offset` on."""
        ...


def upload(way: Way, path: str, name: str | None = None, project: str | None = None) -> dict[str, Any]:
    """Sends the file at `path`; what the coordinator says of it. Raises OSError, and what `way` raises."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        body = {"name": name or os.path.basename(path), "size": size}
        known = _persist(partial(way.announce, body, project))
        while known["received"] < size:
            offset = file.seek(known["received"])
            data = file.read(min(PART, size - offset))
            if not data:
                raise OSError(f"{path} became shorter while it was sent")
            known = _persist(partial(_part, way, known["id"], offset, data))
        return known


def _part(way: Way, file: str, offset: int, data: bytes) -> dict[str, Any]:
    return way.send_part(file, offset, data) or way.known(file)


def save(way: Way, path: str, target: str, size: int, sha256: str | None) -> str:
    """Writes the file at `path` of the API to `target`, which is there when all of it has come; its absolute path.

    Raises FileMissing where something else came, OSError, and what `way` raises.
    """
    target = os.path.abspath(target)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    descriptor, part = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".samovar-")
    try:
        digest = hashlib.sha256()
        with open(descriptor, "wb") as file:
            for data in stream(way, path, size):
                file.write(data)
                digest.update(data)
        if sha256 is not None and digest.hexdigest() != sha256:
            raise FileMissing(f"{path}: what has come is something else than what was kept")
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(part, 0o666 & ~mask)
        os.replace(part, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise
    return target


def stream(way: Way, path: str, size: int) -> Iterator[bytes]:
    """The bytes of a file, in order and each once, however often it breaks off."""
    offset, deadline = 0, time.monotonic() + _PATIENCE
    while offset < size or not size:
        try:
            for data in way.read_from(path, offset):
                offset, deadline = offset + len(data), time.monotonic() + _PATIENCE
                yield data
            if not size:
                return
        except Unfinished as error:
            if time.monotonic() > deadline:
                raise (error.__cause__ or error) from None
            time.sleep(_PAUSE)


def of_run(run: str, name: str) -> str:
    """The path of a run's file."""
    return f"/runs/{quote(run, safe='')}/files/{quote(name, safe='/')}"


def below(folder: str, name: str) -> str:
    """Where a file of this name is written below `folder`: nowhere else, whatever it is called. Raises OSError."""
    parts = name.replace("\\", "/").split("/")
    if any(part in ("", ".", "..") or ":" in part for part in parts):
        raise OSError(f"{name!r} is no name that can be written below a folder; save it under another name")
    return os.path.join(folder, *parts)


def _persist(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return ask()
        except Unfinished as error:
            if time.monotonic() > deadline:
                raise (error.__cause__ or error) from None
            time.sleep(_PAUSE)
