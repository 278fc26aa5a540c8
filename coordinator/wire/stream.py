"""A connection of one host that carries lines both ways: the framing of the control socket, at both its ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

#: Bytes that wait for the other end to read them before who writes more waits too.
_UNREAD = 256 * 1024


class Stream(asyncio.Protocol):
    """One end. What comes is heard line by line, in the loop's own step; what is said goes out at once.

    Memory is bounded where `heard` keeps nothing, and who says much waits for `room` between two lines.
    """

    def __init__(self, split: Callable[[bytes], list[bytes]]) -> None:
        """`split`: bytes in, whole lines out; raises where a line is longer than it may be."""
        self._split = split
        self._transport: asyncio.Transport | None = None
        self._room = asyncio.Event()

    def heard(self, line: bytes) -> None:
        """A line that is not empty."""
        raise NotImplementedError

    def garbled(self, problem: str) -> None:
        """What comes can't be read any more."""
        raise NotImplementedError

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def has_room(self) -> bool:
        return self._room.is_set()

    async def room(self) -> None:
        """Until the other end has read most of what was said to it, or is gone."""
        while not self._room.is_set():
            await self._room.wait()

    def say(self, data: bytes) -> None:
        """Whole lines."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Ends the connection when what was said has gone out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Ends it at once."""
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------ what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_UNREAD)
        self._room.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._room.set()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def data_received(self, data: bytes) -> None:
        if not self.open:
            return
        try:
            lines = self._split(data)
        except Exception as error:
            self.garbled(str(error))
            return
        for line in lines:
            if not self.open:
                return
            self.heard(line)
