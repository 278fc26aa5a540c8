"""The pool's rules replayed over a trace: cold starts and delays for a given memory.

The classes that the runner uses (warm.py, forecast.py), between events of a trace instead of an engine. A run that
finds no room waits in line for it, as in the pool; one that would wait more than an hour, or that no memory would
be enough for, is counted as dropped.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from coordinator.keeping.forecast import Forecast
from coordinator.keeping.warm import KEEP_ALIVE, MOST, MOST_PER_TASK, RULE, STARTS, Rule, WarmSet

_LONGEST = 3600.0


@dataclass(frozen=True)
class Task:
    """A task of a trace; `start` is what a cold start of it takes, in seconds, and `memory` its bytes.

    `kind`: runs of one kind may share a container, whatever their task; empty: only its own. `kept`: whether its
    containers are used again.
    """

    name: str
    memory: int
    start: float
    kind: str = ""
    kept: bool = True

    @property
    def key(self) -> str:
        return self.kind or self.name


@dataclass(frozen=True)
class Call:
    """A run: when it was triggered and how long it takes in a container that stands ready, in seconds."""

    at: float
    task: Task
    seconds: float


@dataclass(frozen=True)
class Setup:
    """A policy by its name; by default that of a runner whose operator has said nothing."""

    name: str = "greedy-dual + wait"
    rule: Rule = RULE
    keep_alive: float = KEEP_ALIVE
    waits: bool = True
    #: Warm containers of a task, and in all; and how many are started at a time.
    per_task: int = MOST_PER_TASK
    most: int = MOST
    starts: int = STARTS


@dataclass
class Figures:
    """What became of a trace; delays in milliseconds."""

    runs: int = 0
    cold: int = 0
    waited: int = 0
    dropped: int = 0
    delays: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        delays = sorted(self.delays) or [0.0]
        return {
            "runs": self.runs,
            "cold_ratio": self.cold / max(1, self.runs),
            "waited_ratio": self.waited / max(1, self.runs),
            "dropped": self.dropped,
            "mean_delay_ms": sum(delays) / len(delays),
            "p99_delay_ms": delays[min(len(delays) - 1, int(0.99 * len(delays)))],
        }


@dataclass
class _Busy:
    name: str
    call: Call
    began: float


@dataclass(eq=False)
class _Waiter:
    call: Call
    #: Until when it waits for a container of its own kind; after that it is in line for room.
    until: float
    #: Whether it has one by now, or was dropped: a line that it is found in yet is one that it has left.
    placed: bool = False


class Replay:
    """One pool of `memory` bytes, and a trace that goes through it."""

    def __init__(self, setup: Setup, memory: int) -> None:
        self._setup, self._memory = setup, memory
        self._warm = WarmSet(
            keep_alive=setup.keep_alive, most=setup.most, most_per_task=setup.per_task, rule=setup.rule
        )
        self._forecast = Forecast()
        self._busy: dict[str, dict[str, _Busy]] = defaultdict(dict)
        self._sizes: dict[str, int] = {}
        self._used = 0
        self._starting = 0
        #: (time, order, kind, ...) of what is to come.
        self._next: list[tuple[float, int, str, object]] = []
        self._number = 0
        self._waiting: dict[str, deque[_Waiter]] = defaultdict(deque)
        #: In line for room: all, and those of each kind.
        self._line: deque[_Waiter] = deque()
        self._line_of: dict[str, deque[_Waiter]] = defaultdict(deque)
        self.figures = Figures()

    def run(self, calls: Sequence[Call]) -> Figures:
        for call in calls:
            self._until(call.at)
            self._arrive(call)
        self._until(float("inf"))
        self.figures.dropped += sum(not waiter.placed for waiter in self._line)
        return self.figures

    def _until(self, now: float) -> None:
        while self._next and self._next[0][0] <= now:
            at, _, kind, what = heapq.heappop(self._next)
            if kind == "started":
                self._begin(at, what)  # type: ignore[arg-type]
            elif kind == "ended":
                self._ended(at, what)  # type: ignore[arg-type]
            else:
                self._impatient(at, what)  # type: ignore[arg-type]

    def _at(self, time: float, kind: str, what: object) -> None:
        self._number += 1
        heapq.heappush(self._next, (time, self._number, kind, what))

    def _arrive(self, call: Call) -> None:
        now, key = call.at, call.task.key
        self.figures.runs += 1
        for gone in self._warm.expired(now):
            self._gone(gone)
        if call.task.memory > self._memory:
            self.figures.dropped += 1
            return
        name = self._warm.take(key) if call.task.kept else None
        if name is not None:
            self._pour(now, name, call, 0.0)
            return
        if self._setup.waits and call.task.kept:
            busy = [(b.call.task.name, now - b.began) for b in self._busy[key].values()]
            patience = self._forecast.worth_waiting(key, busy, len(self._waiting[key]))
            if patience is not None:
                waiter = _Waiter(call, now + patience)
                self._waiting[key].append(waiter)
                self._at(waiter.until, "impatient", waiter)
                return
        self._stand_in_line(_Waiter(call, now))
        self._serve(now)

    def _stand_in_line(self, waiter: _Waiter) -> None:
        self._line.append(waiter)
        if waiter.call.task.kept:
            self._line_of[waiter.call.task.key].append(waiter)

    def _impatient(self, now: float, waiter: _Waiter) -> None:
        if not waiter.placed:
            self._waiting[waiter.call.task.key].remove(waiter)
            self._stand_in_line(waiter)
            self._serve(now)

    def _serve(self, now: float) -> None:
        """Starts what is in line, as far as there is room and starts go on at once."""
        while self._line and self._starting < self._setup.starts:
            waiter = self._line[0]
            call = waiter.call
            if waiter.placed:
                self._line.popleft()
                continue
            if now - call.at > _LONGEST:
                waiter.placed = True
                self.figures.dropped += 1
                continue
            while self._used + call.task.memory > self._memory:
                least = self._warm.evict()
                if least is None:
                    return
                self._gone(least)
            self._line.popleft()
            waiter.placed = True
            self._number += 1
            name = f"c{self._number}"
            self._sizes[name] = call.task.memory
            self._used += call.task.memory
            self._starting += 1
            self.figures.cold += 1
            self._at(now + call.task.start, "started", (name, call, now))

    def _begin(self, now: float, what: tuple[str, Call, float]) -> None:
        name, call, began = what
        self._starting -= 1
        self._forecast.started(call.task.key, now - began)
        self._pour(now, name, call, now - call.at)
        self._serve(now)

    def _pour(self, now: float, name: str, call: Call, delay: float) -> None:
        self.figures.delays.append(1000 * delay)
        self._busy[call.task.key][name] = busy = _Busy(name, call, now)
        self._at(now + call.seconds, "ended", busy)

    def _ended(self, now: float, busy: _Busy) -> None:
        call, key = busy.call, busy.call.task.key
        del self._busy[key][busy.name]
        self._forecast.ran(call.task.name, call.seconds)
        if not call.task.kept:
            self._gone(busy.name)
            self._serve(now)
            return
        waiter = self._first(key)
        if waiter is not None:
            waiter.placed = True
            self.figures.waited += 1
            self._pour(now, busy.name, waiter.call, now - waiter.call.at)
            return
        cost = self._forecast.start(key)
        for name in self._warm.put(busy.name, key, call.task.name, now, memory=call.task.memory, cost=cost):
            self._gone(name)
        self._serve(now)

    def _first(self, key: str) -> _Waiter | None:
        """Who takes a container of `key` that comes free: who waits for one, else who is in line for a start."""
        if self._waiting[key]:
            return self._waiting[key].popleft()
        line = self._line_of[key]
        while line:
            waiter = line.popleft()
            if not waiter.placed:
                return waiter
        return None

    def _gone(self, name: str) -> None:
        self._used -= self._sizes.pop(name)
