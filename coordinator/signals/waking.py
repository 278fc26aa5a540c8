"""Who waits for what: long polls and streams sleep until a change of theirs is committed, here or elsewhere.

A wake says only "look again"; what is true stands in the database. So nothing is lost when nobody listens,
and a listener that subscribes before it looks misses nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Runs may be claimable: the line has grown, or something that kept it back is gone.
CLAIMS = "claims"
#: A host has room again, or a queue a place: of what stood in line already, some may be claimable.
FREED = "freed"
#: Builds may be claimable.
BUILDS = "builds"
#: A time that the maintenance has to keep may have come nearer.
DUE = "due"
#: A key was revoked, or a session of one has ended.
KEYS = "keys"
#: Some run has changed: heard by who listens to this, and never notified itself.
RUNS = "runs"

_RUN, _STEP = "run:", "step:"


def run(run_id: str) -> str:
    """The topic of a run: it has ended, or stands elsewhere than it did."""
    return f"{_RUN}{run_id}"


def step(run_id: str) -> str:
    """What happens to a run on its way to an end: an attempt was claimed or has begun, logs or progress came."""
    return f"{_STEP}{run_id}"


def bulk(bulk_id: str) -> str:
    """The topic of what is done with many runs: how far it has come."""
    return f"bulk:{bulk_id}"


def commands(runner: str) -> str:
    return f"commands:{runner}"


def build(deployment: str) -> str:
    return f"build:{deployment}"


class Change(asyncio.Event):
    """`at`: when it was heard last, or else since when it is listened to, on the clock of `time.monotonic`."""

    def __init__(self) -> None:
        super().__init__()
        self.at = time.monotonic()
        self._sleeping: set[asyncio.Future[None]] = set()

    def set(self) -> None:
        self.at = time.monotonic()
        super().set()
        for sleeping in self._sleeping:
            _wake(sleeping)

    async def heard(self, seconds: float, gone: asyncio.Future[None]) -> None:
        """Returns when it is set, after so many seconds, or when `gone` is done.

        As `asyncio.wait` would, in one pass of the loop instead of three: every run waits for its claim by this,
        and its caller for its end.
        """
        if self.is_set() or gone.done():
            return
        loop = asyncio.get_running_loop()
        sleeping: asyncio.Future[None] = loop.create_future()

        def left(gone: asyncio.Future[None]) -> None:
            _wake(sleeping)

        timer = loop.call_later(seconds, _wake, sleeping)
        gone.add_done_callback(left)
        self._sleeping.add(sleeping)
        try:
            await sleeping
        finally:
            timer.cancel()
            gone.remove_done_callback(left)
            self._sleeping.discard(sleeping)


def _wake(sleeping: asyncio.Future[None]) -> None:
    if not sleeping.done():
        sleeping.set_result(None)


class Waking:
    """Used from the event loop's thread only."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[Change]] = {}
        self._told: Callable[[tuple[str, ...]], None] | None = None
        self.closed = False
        #: How often CLAIMS was told so far: as long as that stays, an empty line is empty.
        self.claims = 0
        #: Whether changes that other coordinators make wake listeners here (coordinator/signals/channel.py).
        self.hears_others = False

    @contextmanager
    def listen(self, *topics: str) -> Iterator[Change]:
        """An event that is set at every change of a topic; clear it before looking, then wait for it."""
        event = Change()
        for topic in topics:
            self._listeners.setdefault(topic, set()).add(event)
        try:
            yield event
        finally:
            for topic in topics:
                left = self._listeners[topic]
                left.discard(event)
                if not left:
                    del self._listeners[topic]

    def notify(self, *topics: str) -> None:
        """A change of these topics was committed by this coordinator."""
        self.wake(*topics)
        if self._told is not None and topics:
            self._told(topics)

    def on_notify(self, told: Callable[[tuple[str, ...]], None]) -> None:
        """Has `told` called with the topics of every `notify`."""
        self._told = told

    def wake(self, *topics: str) -> None:
        """Wakes those who listen here, and tells nobody else."""
        for topic in topics:
            self.claims += topic == CLAIMS
            for event in self._listeners.get(topic, ()):
                event.set()
            if topic.startswith((_RUN, _STEP)):
                for event in self._listeners.get(RUNS, ()):
                    event.set()

    def wake_all(self) -> None:
        self.claims += 1
        for listeners in self._listeners.values():
            for event in listeners:
                event.set()

    def close(self) -> None:
        """Ends every wait, for good: the server is stopping."""
        self.closed = True
        self.wake_all()
