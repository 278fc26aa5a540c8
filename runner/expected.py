"""Which containers are expected to come free, and whether a run had better wait for one."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from coordinator.keeping.forecast import Forecast
from runner.container import Container
from runner.successors import Successors

#: How long a run waits for a container that is about to come free, in seconds: less than a cold start takes.
_RETURN = 0.5


class Expected:
    """What the pool's containers are about to do, and what has been promised of it."""

    def __init__(
        self,
        containers: Mapping[str, Container],
        forecast: Forecast,
        successors: Successors,
        clock: Callable[[], float],
    ) -> None:
        self._containers = containers
        self._forecast = forecast
        self._successors = successors
        self._clock = clock
        #: By key, how many runs wait for a container to come free.
        self._promised: Counter[str] = Counter()

    def patience(self, key: str) -> float:
        """Seconds that a run had better wait for a container of `key` to come free before one is started for it."""
        _, busy = self._of(key)
        patience = self._forecast.worth_waiting(key, busy, self._promised[key]) or 0.0
        if (starting := self._being_prepared(key)) and self._promised[key] < len(starting):
            # another start would end later: this one is under way
            began = sorted(c.since for c in starting)[self._promised[key]]
            patience = max(patience, self._forecast.start(key) - (self._clock() - began))
        # about to come free: the run triggered on the news that another has ended is often claimed before that
        return max(_RETURN, patience)

    def one_more(self, key: str) -> bool:
        """Whether one is expected soon that is promised to nobody."""
        about, busy = self._of(key)
        before = self._promised[key]
        about += len(self._being_prepared(key))
        return before < about or self._forecast.worth_waiting(key, busy, before - about) is not None

    @contextlib.contextmanager
    def promised(self, key: str) -> Iterator[None]:
        """One is promised while the block runs."""
        self._promised[key] += 1
        try:
            yield
        finally:
            self._promised[key] -= 1
            if not self._promised[key]:
                del self._promised[key]

    @property
    def waiters(self) -> int:
        """How many wait for one to come free, of whatever key: they want no start, as long as they do."""
        return self._promised.total()

    def waiting(self, key: str) -> int:
        """How many wait for one of the key."""
        return self._promised[key]

    def _being_prepared(self, key: str) -> list[Container]:
        """Those of `key` that are being started for nobody."""
        return [c for c in self._containers.values() if c.unused and c.state == "starting" and c.key.digest == key]

    def _of(self, key: str) -> tuple[int, list[tuple[str, float]]]:
        """How many are about to come free; of the others the task, and for how many seconds its run has gone on."""
        now, returning = self._clock(), self._returning(key)
        return sum(c.returning for c in returning), [
            (c.task, now - c.serving) for c in returning if not c.returning
        ]

    def _returning(self, key: str) -> list[Container]:
        """The containers of `key` that have a run, and come free after it as far as anybody knows."""
        return [
            c
            for c in self._containers.values()
            if (c.state == "busy" or c.returning)
            and c.key.digest == key
            and (c.held or (c.assignment is not None and c.assignment.limits.warm))
            and self._successors.serves_on(c)
        ]
