"""The pool's policy replayed over a trace: cold starts and delays for a given memory.

    python -m bench.pool_replay                                made-up day of 80 tasks, 1 to 16 GiB
    python -m bench.pool_replay --azure-2019 FOLDER
    python -m bench.pool_replay --azure-2021 FILE
    python -m bench.pool_replay --svg docs/reference/pool-replay.svg

It is the class that the runner uses (runner/warm.py, runner/forecast.py) between events of a trace instead of an
engine. A run that finds no room waits in line for it, as in the pool; one that would wait more than an hour, or
that no memory would be enough for, is counted as dropped.
"""

from __future__ import annotations

import argparse
import heapq
import json
import sys
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import traces
from bench.figures import Outcome, Series, Target
from bench.plot import lines
from bench.traces import MIB, Call
from runner.forecast import Forecast
from runner.warm import Rule, WarmSet

_LONGEST = 3600.0
#: Where all the trace's work has room; and mean delays, of others of the same memory.
TARGET_GIB = (8, 12, 16)
_OVER = {"lru-10min": 0.45, "lru-60s": 0.4}


@dataclass(frozen=True)
class Setup:
    """A policy by its name in the table."""

    name: str
    rule: Rule
    keep_alive: float = 60.0
    waits: bool = False
    #: Warm containers of a task, and in all.
    per_task: int = 5
    most: int = 50


SETUPS = (
    Setup("lru-60s", "ttl", 60),
    Setup("lru-10min", "ttl", 600),
    Setup("lru", "lru"),
    Setup("lfu", "lfu"),
    Setup("greedy-dual", "greedy-dual"),
    Setup("lru + wait", "lru", waits=True),
    Setup("greedy-dual + wait", "greedy-dual", waits=True),
)


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


@dataclass
class _Waiter:
    call: Call
    #: Until when it waits for a container of its own kind; after that it is in line for room.
    until: float
    placed: bool = False


class Replay:
    """One pool of `memory` bytes, and a trace that goes through it."""

    def __init__(self, setup: Setup, memory: int, starts: int = 3) -> None:
        self._setup, self._memory = setup, memory
        self._warm = WarmSet(
            keep_alive=setup.keep_alive, most=setup.most, most_per_task=setup.per_task, rule=setup.rule
        )
        self._forecast = Forecast()
        self._busy: dict[str, dict[str, _Busy]] = defaultdict(dict)
        self._sizes: dict[str, int] = {}
        self._used = 0
        self._starts = starts
        self._starting = 0
        #: (time, order, kind, ...) of what is to come.
        self._next: list[tuple[float, int, str, object]] = []
        self._number = 0
        self._waiting: dict[str, deque[_Waiter]] = defaultdict(deque)
        self._line: deque[_Waiter] = deque()
        self.figures = Figures()

    def run(self, calls: Sequence[Call]) -> Figures:
        for call in calls:
            self._until(call.at)
            self._arrive(call)
        self._until(float("inf"))
        self.figures.dropped += len(self._line)
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
        now, key = call.at, call.task.name
        self.figures.runs += 1
        for gone in self._warm.expired(now):
            self._gone(gone)
        if call.task.memory > self._memory:
            self.figures.dropped += 1
            return
        name = self._warm.take(key)
        if name is not None:
            self._pour(now, name, call, 0.0)
            return
        if self._setup.waits:
            busy = [(key, now - b.began) for b in self._busy[key].values()]
            patience = self._forecast.worth_waiting(key, busy, len(self._waiting[key]))
            if patience is not None:
                waiter = _Waiter(call, now + patience)
                self._waiting[key].append(waiter)
                self._at(waiter.until, "impatient", waiter)
                return
        self._line.append(_Waiter(call, now))
        self._serve(now)

    def _impatient(self, now: float, waiter: _Waiter) -> None:
        if not waiter.placed:
            self._waiting[waiter.call.task.name].remove(waiter)
            self._line.append(waiter)
            self._serve(now)

    def _serve(self, now: float) -> None:
        """Starts what is in line, as far as there is room and starts go on at once."""
        while self._line and self._starting < self._starts:
            waiter = self._line[0]
            call = waiter.call
            if now - call.at > _LONGEST:
                self._line.popleft()
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
        self._forecast.started(call.task.name, now - began)
        self._pour(now, name, call, now - call.at)
        self._serve(now)

    def _pour(self, now: float, name: str, call: Call, delay: float) -> None:
        self.figures.delays.append(1000 * delay)
        self._busy[call.task.name][name] = busy = _Busy(name, call, now)
        self._at(now + call.seconds, "ended", busy)

    def _ended(self, now: float, busy: _Busy) -> None:
        call, key = busy.call, busy.call.task.name
        del self._busy[key][busy.name]
        self._forecast.ran(key, call.seconds)
        waiter = self._first(key)
        if waiter is not None:
            waiter.placed = True
            self.figures.waited += 1
            self._pour(now, busy.name, waiter.call, now - waiter.call.at)
            return
        leaving = self._warm.put(busy.name, key, key, now, memory=call.task.memory, cost=self._forecast.start(key))
        for name in leaving:
            self._gone(name)
        self._serve(now)

    def _first(self, key: str) -> _Waiter | None:
        """Who takes a container of `key` that comes free: who waits for one, else who is in line for a start."""
        if self._waiting[key]:
            return self._waiting[key].popleft()
        for waiter in self._line:
            if waiter.call.task.name == key:
                self._line.remove(waiter)
                return waiter
        return None

    def _gone(self, name: str) -> None:
        self._used -= self._sizes.pop(name)


def replay(
    calls: Sequence[Call], memories: Sequence[int], setups: Sequence[Setup] = SETUPS
) -> list[dict[str, object]]:
    """One row for each policy and memory (bytes)."""
    return [
        {"policy": setup.name, "memory": memory, **Replay(setup, memory).run(calls).summary()}
        for memory in memories
        for setup in setups
    ]


def outcomes(count: int) -> list[Outcome]:
    """The made-up trace of `count` tasks: the default rule against LRU, at the same memory."""
    calls = traces.made_up(1, count, 86_400.0)
    found = []
    for gib in TARGET_GIB:
        rows = {str(row["policy"]): row for row in replay(calls, [gib * 1024 * MIB])}
        mine = rows["greedy-dual + wait"]
        delay = Series("greedy-dual + wait: mean delay", "ms", [float(str(mine["mean_delay_ms"]))])
        peers = [Series(f"{name}: mean delay", "ms", [float(str(rows[name]["mean_delay_ms"]))]) for name in _OVER]
        targets = [
            Target(f"mean delay over {name}", delay.median / peer.median, most, "x")
            for (name, most), peer in zip(_OVER.items(), peers, strict=True)
        ]
        cold, lru = (float(str(row["cold_ratio"])) for row in (mine, rows["lru"]))
        targets.append(Target("cold starts over LRU's", cold / lru, 1.0, "x"))
        targets.append(Target("runs dropped", float(str(mine["dropped"])), 0, ""))
        found.append(Outcome(f"replay: {gib} GiB", f"{len(calls)} runs of a made-up day", [delay], peers, targets))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tasks", type=int, default=80)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--gib", type=float, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument("--azure-2019", type=Path, metavar="FOLDER")
    parser.add_argument("--azure-2021", type=Path, metavar="FILE")
    parser.add_argument("--svg", type=Path, help="where to draw cold starts and delays against memory")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.azure_2019:
        calls = traces.azure_2019(given.azure_2019, seed=given.seed)
    elif given.azure_2021:
        calls = traces.azure_2021(given.azure_2021, seed=given.seed)
    else:
        calls = traces.made_up(given.seed, given.tasks, 3600 * given.hours)
    rows = replay(calls, [int(1024 * MIB * gib) for gib in given.gib])
    if given.json:
        json.dump(rows, sys.stdout, indent=2)
        print()
    else:
        print(f"{len(calls)} runs of {len({call.task.name for call in calls})} tasks")
        print(f"{'memory':>8} {'policy':<20} {'cold':>8} {'waited':>8} {'mean':>9} {'p99':>9} {'dropped':>8}")
        for row in rows:
            print(
                f"{int(str(row['memory'])) / 1024 / MIB:>4.0f} GiB {row['policy']:<20} {row['cold_ratio']:>7.2%} "
                f"{row['waited_ratio']:>7.2%} {row['mean_delay_ms']:>6.0f} ms {row['p99_delay_ms']:>6.0f} ms "
                f"{row['dropped']:>8}"
            )
    if given.svg:
        given.svg.write_text(lines(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
