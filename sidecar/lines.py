"""The lines of one connection, each under the cap of its type, at the pace of its container."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from samovar import wire

from sidecar import envelope
from sidecar.envelope import CAPS, WHOLE, Request
from sidecar.pace import Pace

#: Bytes and messages of a container, a second and at once. Above it the sidecar reads later.
_BYTES = (16.0 * 1024 * 1024, 48 * 1024 * 1024)
_MESSAGES = (600.0, 2000)
#: Seconds, all in all, that the sidecar waits for the rest of a line that has begun.
PATIENCE = 10.0
_READ = 64 * 1024
#: What a read costs at the least, in bytes: who writes byte by byte is not read as often.
_LEAST = 2048


class Allowance:
    """What one container may say, over all its connections."""

    def __init__(self) -> None:
        self.bytes = Pace(*_BYTES)
        self.messages = Pace(*_MESSAGES)


class Large:
    """The right to have one line of more than WHOLE bytes here: one for each container, some for the host."""

    def __init__(self, host: asyncio.Semaphore) -> None:
        self._host = host
        self._own = asyncio.Lock()

    async def acquire(self) -> None:
        await self._own.acquire()
        try:
            # every container has one place in this line at most: its turns go round
            await self._host.acquire()
        except BaseException:
            self._own.release()
            raise

    def release(self) -> None:
        self._host.release()
        self._own.release()


class Lines:
    """Reads requests out of a stream."""

    def __init__(self, reader: asyncio.StreamReader, allowance: Allowance, large: Large, first: bytes) -> None:
        self._reader = reader
        self._allowance = allowance
        self._large = large
        self._data = first
        #: Of the line that is being read: its parts that are kept, and how long it is.
        self._parts: list[bytes] = []
        self._size = 0
        self._waited = 0.0
        self._begun: Request | None = None
        self._member: str | None = None
        self._holds = False

    async def __aiter__(self) -> AsyncIterator[Request]:
        """Each request; who gets one that is `large` releases the right to it. Raises ProtocolError."""
        try:
            while self._data or await self._more():
                if not self._size:
                    # empty lines say nothing, and as many as there are cost one step
                    self._data = self._data.lstrip(b"\r\n")
                    if not self._data:
                        continue
                end = self._data.find(b"\n")
                if end < 0:
                    piece, self._data, whole = self._data, b"", False
                else:
                    piece, self._data, whole = self._data[:end], self._data[end + 1 :], True
                await self._keep(piece)
                if whole:
                    await self._allowance.messages.turn()
                    request = self._ended()
                    if request is not None:
                        yield request
        finally:
            self._release()

    async def _more(self) -> bool:
        if not self._size:
            self._data = await self._reader.read(_READ)
        else:
            # what this side spends on other containers is not held against the line
            clock = asyncio.get_running_loop().time
            since = clock()
            try:
                async with asyncio.timeout(PATIENCE - self._waited):
                    self._data = await self._reader.read(_READ)
            except TimeoutError:
                raise wire.ProtocolError(f"a line did not end in {PATIENCE:g} s") from None
            self._waited += clock() - since
        pause = self._allowance.bytes.take(max(_LEAST, len(self._data)))
        if pause:
            await asyncio.sleep(pause)
        return bool(self._data)

    async def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > wire.MAX_LINE:
            raise wire.ProtocolError(f"a line is longer than {wire.MAX_LINE} bytes")
        begun = self._begun
        if begun is None or self._member is not None:
            if self._parts and len(self._parts[-1]) < _READ:
                # however small the pieces are that it comes in
                self._parts[-1] += piece
            elif piece:
                self._parts.append(piece)
        if begun is None and self._size > WHOLE:
            await self._begin()
        elif begun is not None and self._member is not None and self._size > CAPS[begun.kind]:
            # its rest is read and not kept; its type says how long it may be
            begun.too_large()
            self._member, self._parts = None, []
            self._release()

    async def _begin(self) -> None:
        data = b"".join(self._parts)
        self._begun, self._member, at = envelope.begin(data)
        self._parts = [data[at:]] if self._member is not None else []
        if self._member is not None:
            await self._large.acquire()
            self._holds = True

    def _ended(self) -> Request | None:
        parts, size, begun, member = self._parts, self._size, self._begun, self._member
        self._parts, self._size, self._waited, self._begun, self._member = [], 0, 0.0, None, None
        if begun is not None:
            if member is None:
                return begun
            request = envelope.complete(begun, member, parts, size)
            # the right goes with the request, to be given back when it is answered
            request.large, self._holds = self._holds, False
            return request
        line = b"".join(parts)
        return envelope.read(line) if line.strip() else None

    def _release(self) -> None:
        if self._holds:
            self._holds = False
            self._large.release()
