"""What happened in the containers, kept until the runner has acted on it."""

from __future__ import annotations

import secrets
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from coordinator.wire import SidecarEvent

#: Events of one container that the runner has not acted on. More are there only where it was away; one that finds
#: some missing registers the container again, and hears the state of it.
_KEPT = 64


class EventLog:
    """The events that nobody has acknowledged, numbered from 1 over all containers.

    What one container does costs only its own events their place. An event costs the same however many there were
    before it, and nothing once it is acknowledged.
    """

    def __init__(self) -> None:
        self.boot = secrets.token_hex(8)
        #: The number of the last one.
        self.seq = 0
        #: In the order of their numbers.
        self._events: OrderedDict[int, SidecarEvent] = OrderedDict()
        self._of: dict[str, deque[int]] = {}
        self._more: Callable[[], None] = lambda: None

    def on_more(self, call: Callable[[], None]) -> None:
        """`call` is called at each event; it has to be short."""
        self._more = call

    def add(self, container: str, kind: Any, **fields: Any) -> None:
        self.seq += 1
        self._events[self.seq] = SidecarEvent(seq=self.seq, container=container, kind=kind, **fields)
        own = self._of.setdefault(container, deque())
        own.append(self.seq)
        if len(own) > _KEPT:
            del self._events[own.popleft()]
            # what has lost its place leaves word of it in the next one's, which is lost too
            gap = own[0]
            self._events[gap] = SidecarEvent(seq=gap, container=container, kind="gap")
        self._more()

    def forget(self, container: str) -> None:
        """Drops what a container has said that is gone: nobody acts on it any more."""
        for seq in self._of.pop(container, ()):
            del self._events[seq]

    def acknowledge(self, seq: int) -> None:
        """Drops what is numbered `seq` and below: the runner has acted on it."""
        while self._events:
            first, event = next(iter(self._events.items()))
            if first > seq:
                break
            del self._events[first]
            own = self._of[event.container]
            own.popleft()  # a container's first is the first of all that are left of it
            if not own:
                del self._of[event.container]

    def after(self, seq: int) -> list[SidecarEvent]:
        """The events numbered above `seq`, in their order."""
        newer = []
        # from the newest backwards: it costs what is new, not what is kept
        for number in reversed(self._events):
            if number <= seq:
                break
            newer.append(self._events[number])
        return newer[::-1]
