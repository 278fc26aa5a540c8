"""A container the runner owns, from its reservation in the ledger to its removal."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from coordinator.wire import Assignment, Placing, SidecarEvent, Start
from coordinator.wire.pool import MAX_SAMPLES
from runner.spec import ContainerKey

State = Literal["starting", "idle", "busy", "leaving"]
Prepared = Literal["successor", "stem"]


@dataclass(frozen=True)
class Died:
    """The engine says that the container died."""


@dataclass(frozen=True)
class EndAsked:
    """Somebody wants this attempt to end; it knows why. Left unread by its end, it is none of the next one's."""

    attempt: str


Happening = SidecarEvent | Died | EndAsked


@dataclass(eq=False)
class Container:
    name: str
    key: ContainerKey
    #: Monotonic time of its creation, in seconds.
    since: float
    state: State = "starting"
    #: Monotonic time from which it has served its run: since it was handed over, or its imports had ended.
    serving: float = 0.0
    runs: int = 0
    task: str = ""
    assignment: Assignment | None = None
    start: Start = "cold"
    #: How its run came to it; None: that of a former life of the runner.
    placing: Placing | None = None
    #: Resident bytes when the modules had just been imported; None: not known, so not kept warm.
    baseline: int | None = None
    #: What is started to take its place when it has served long enough.
    successor: Container | None = None
    #: What it was started for where that is nobody's run: to take another's place, or ahead of demand.
    prepared: Prepared | None = None
    #: Of its last runs, the most memory that each took and what was held after it, in bytes.
    samples: deque[tuple[int | None, int | None]] = field(default_factory=lambda: deque(maxlen=MAX_SAMPLES))
    peak: int | None = None
    #: Resident bytes, as it said last.
    used: int | None = None
    #: Its H while it is idle.
    worth: float | None = None
    #: Its run has ended well, and the coordinator is being told or it is being cleaned up: it comes free soon.
    returning: bool = False
    #: The attempt whose run has ended in it while it was still to be cleaned up, and what it said after that.
    held: str = ""
    account: SidecarEvent | None = None
    #: Set when there is an account, or it died.
    released: asyncio.Event = field(default_factory=asyncio.Event)
    #: What is said of it, for whoever runs an attempt here.
    inbox: asyncio.Queue[Happening] = field(default_factory=asyncio.Queue)
    #: Set when the engine has answered to its creation and start, whatever it answered.
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    #: Set when process 1 has connected to the sidecar, or the container died.
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    #: Set when the modules are imported, could not be, or the container died.
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    #: Whether the modules are imported, or could not be; and whether it died by itself before.
    ready: bool = False
    died: bool = False
    #: Whether it was ended because it took more than its memory.
    overdrawn: bool = False
    #: Whether somebody has asked for the end of what it was started for.
    asked: bool = False

    @property
    def kept(self) -> bool:
        """Whether it stays after its run, as far as anybody knows."""
        return self.state != "leaving" and (self.assignment is None or self.assignment.limits.warm)

    @property
    def unused(self) -> bool:
        """Whether it was prepared, and nothing has run in it."""
        return self.prepared is not None and self.runs == 0

    @property
    def spare(self) -> bool:
        """Whether it is a stem that nothing has run in."""
        return self.prepared == "stem" and self.unused

    def tell(self, what: Happening) -> None:
        if isinstance(what, SidecarEvent):
            self.connected.set()  # whatever it says, it says over its connection
        if isinstance(what, SidecarEvent) and what.kind == "ready":
            self.ready = True
            self.baseline = self.used = what.memory if what.error is None else None
            self.settled.set()
        elif isinstance(what, SidecarEvent) and what.kind == "released":
            self.account = what
            self.released.set()
            return
        elif isinstance(what, SidecarEvent) and what.kind == "ending":
            self.returning = what.clean
        elif isinstance(what, EndAsked):
            self.asked = True
        elif isinstance(what, Died):
            self.died = not self.ready and not self.asked
            self.connected.set()
            self.settled.set()
        elif isinstance(what, SidecarEvent) and what.kind == "finished":
            self.peak = what.peak
        self.inbox.put_nowait(what)
