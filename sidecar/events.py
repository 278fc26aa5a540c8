"""What happened in the containers, for the runner to read by long poll."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from typing import Any

from coordinator.wire import Events, SidecarEvent

_KEPT = 10_000


class EventLog:
    """The last events, numbered from 1; readers wait for those after the number they know."""

    def __init__(self) -> None:
        self.boot = secrets.token_hex(8)
        self._events: deque[SidecarEvent] = deque(maxlen=_KEPT)
        self._seq = 0
        self._more = asyncio.Event()
        self._closed = False

    def close(self) -> None:
        """Ends every long poll, and those still to come."""
        self._closed = True
        self._more.set()

    def add(self, container: str, kind: Any, **fields: Any) -> None:
        self._seq += 1
        self._events.append(SidecarEvent(seq=self._seq, container=container, kind=kind, **fields))
        more, self._more = self._more, asyncio.Event()
        more.set()

    async def after(self, boot: str, seq: int, timeout: float) -> Events:
        """The events numbered above `seq`, at the latest after `timeout` seconds.

        None, and at once, for a reader whose number is of another process than this (`boot`).
        """
        if boot != self.boot:
            return Events(boot=self.boot, next=self._seq)
        if seq >= self._seq and not self._closed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._more.wait(), timeout)
        return Events(boot=self.boot, next=self._seq, events=[e for e in self._events if e.seq > seq])
