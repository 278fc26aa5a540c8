"""What happened in the containers, for the runner to read by long poll."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from typing import Any

from coordinator.wire import Events, SidecarEvent

#: Events of one container. It says nothing faster than the runner reads, so more are kept only for a reader that
#: was away; one that finds some missing registers the container again, and hears the state of it.
_KEPT = 64


class EventLog:
    """The last events of each container, numbered from 1 over all; readers wait for those after the one they know.

    What one container does costs only its own events their place.
    """

    def __init__(self) -> None:
        self.boot = secrets.token_hex(8)
        #: In the order of their numbers.
        self._events: dict[int, SidecarEvent] = {}
        self._of: dict[str, deque[int]] = {}
        #: The number of the last event of a container that has lost its place.
        self._lost: dict[str, int] = {}
        self._seq = 0
        self._more = asyncio.Event()
        self._closed = False

    def close(self) -> None:
        """Ends every long poll, and those still to come."""
        self._closed = True
        self._more.set()

    def add(self, container: str, kind: Any, **fields: Any) -> None:
        self._seq += 1
        self._events[self._seq] = SidecarEvent(seq=self._seq, container=container, kind=kind, **fields)
        own = self._of.setdefault(container, deque())
        own.append(self._seq)
        if len(own) > _KEPT:
            lost = own.popleft()
            del self._events[lost]
            self._lost[container] = lost
        more, self._more = self._more, asyncio.Event()
        more.set()

    def forget(self, container: str) -> None:
        """Drops what a container has said that is gone: nobody acts on it any more."""
        for seq in self._of.pop(container, ()):
            del self._events[seq]
        self._lost.pop(container, None)

    async def after(self, boot: str, seq: int, timeout: float) -> Events:
        """The events numbered above `seq`, at the latest after `timeout` seconds.

        None, and at once, for a reader whose number is of another process than this (`boot`).
        """
        if boot != self.boot:
            return Events(boot=self.boot, next=self._seq)
        if seq >= self._seq and not self._closed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._more.wait(), timeout)
        return Events(boot=self.boot, next=self._seq, events=self._newer(seq), gaps=self._gaps(seq))

    def _newer(self, seq: int) -> list[SidecarEvent]:
        newer = []
        # from the newest backwards: a poll costs what is new, not what is kept
        for number in reversed(self._events):
            if number <= seq:
                break
            newer.append(self._events[number])
        return newer[::-1]

    def _gaps(self, seq: int) -> list[str]:
        return [container for container, lost in self._lost.items() if lost > seq]
