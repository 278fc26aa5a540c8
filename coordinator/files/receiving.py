"""The contents of files on their way into the blob store, a part at a time.

What has come stays when a sender is cut off: it goes on where the file ends. No file is ever in memory as a whole,
and what writes and reads the disk is no event loop.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from coordinator.files import files
from coordinator.foundation.errors import Conflict, StorageUnavailable, TooLarge, invalid_field
from coordinator.foundation.limits import FILE_PART
from coordinator.storage.blobs import Blobs
from coordinator.storage.database import Database

#: Bytes that are written at once.
_STEP = 256 * 1024


def received(blobs: Blobs, row: Row[Any]) -> int:
    """How much of a file is here."""
    if row.finished_at is not None:
        return int(row.size)
    try:
        return blobs.partial(row.id).stat().st_size
    except FileNotFoundError:
        return 0


async def receive(
    database: Database, blobs: Blobs, row: Row[Any], offset: int, parts: AsyncIterator[bytes]
) -> Row[Any]:
    """Takes a part of a file that begins at `offset`, of at most FILE_PART bytes; the row, finished with the last.

    Raises Conflict (`wrong_offset`, `busy`), Invalid (`sha256`), TooLarge, StorageUnavailable.
    """
    if row.finished_at is not None:
        if offset == row.size:
            return row  # the answer to the last part was lost
        raise _wrong(int(row.size), offset)
    with _open(blobs.partial(row.id)) as file:
        here = os.fstat(file).st_size
        if offset != here:
            raise _wrong(here, offset)
        await _write(file, parts, min(FILE_PART, row.size - here))
        if os.fstat(file).st_size < row.size:
            return row
        blob = await asyncio.to_thread(blobs.take, blobs.partial(row.id), row.sha256)
    if blob is None:
        blobs.partial(row.id).unlink(missing_ok=True)
        await database.write(files.forget, row.id)
        raise invalid_field("sha256", "what came is something else than was announced: send the file again")
    return await database.write(files.finish, row.id, blob)


async def nothing() -> AsyncIterator[bytes]:
    """The parts of a file that has none."""
    return
    yield b""


async def _write(file: int, parts: AsyncIterator[bytes], most: int) -> None:
    waiting = bytearray()
    size = 0
    try:
        async for part in parts:
            size += len(part)
            if size > most:
                raise TooLarge(f"a part has at most {FILE_PART} bytes, and not more than is left of the file")
            waiting += part
            if len(waiting) >= _STEP:
                await asyncio.to_thread(_append, file, bytes(waiting))
                waiting.clear()
    finally:
        # what has come is kept, also of a sender that was cut off: it goes on after it
        if size <= most and waiting:
            _append(file, bytes(waiting))


def _append(file: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(file, data) :]
    except OSError as error:
        raise StorageUnavailable(f"a file cannot be written: {error.strerror}; go on where it ends") from error


@contextmanager
def _open(path: Path) -> Iterator[int]:
    """The file that something is appended to: by one at a time, of all coordinators. Raises Conflict (`busy`)."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageUnavailable(f"a file cannot be written: {error.strerror}; nothing was changed") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield file
    except BlockingIOError:
        raise Conflict("another request is sending this file: one at a time", code="busy") from None
    finally:
        os.close(file)


def _wrong(here: int, offset: int) -> Conflict:
    return Conflict(
        f"there are {here} bytes of the file, so the next part does not begin at {offset}", code="wrong_offset"
    )
