"""How long runs and starts take, and so whether a run had better wait for a busy container or have one started.

Pure, as the warm set: times come in, an answer comes out.
"""

from __future__ import annotations

from collections.abc import Sequence

from cachetools import LRUCache

#: How much the newest of a kind counts.
_NEWEST = 0.3
#: Of tasks and keys that are remembered.
_MOST = 10_000
#: A start that nobody has seen yet, in seconds.
START = 0.5
#: A run that goes on past what was expected of it is taken to go on for this much of what it has taken already.
_LONGER = 0.5


class Forecast:
    """What was seen of each task's runs and of each key's starts, in seconds."""

    def __init__(self) -> None:
        self._runs: LRUCache[str, tuple[float, float]] = LRUCache(maxsize=_MOST)
        self._starts: LRUCache[str, float] = LRUCache(maxsize=_MOST)

    def ran(self, task: str, seconds: float) -> None:
        """A run of `task` has taken so long in its container."""
        mean, apart = self._runs.get(task, (seconds, 0.0))
        apart += _NEWEST * (abs(seconds - mean) - apart)
        self._runs[task] = (mean + _NEWEST * (seconds - mean), apart)

    def started(self, key: str, seconds: float) -> None:
        """A container of `key` has taken so long, from the wish for it to the first line."""
        mean = self._starts.get(key, seconds)
        self._starts[key] = mean + _NEWEST * (seconds - mean)

    def start(self, key: str) -> float:
        """Seconds that a start of `key` is expected to take."""
        return self._starts.get(key, START)

    def left(self, task: str, taken: float) -> float | None:
        """Seconds until a run of `task` that has gone on for `taken` is expected to end; None: nobody knows."""
        known = self._runs.get(task)
        if known is None:
            return None
        mean, apart = known
        late = mean + apart
        return late - taken if taken < late else _LONGER * taken

    def worth_waiting(self, key: str, busy: Sequence[tuple[str, float]], before: int) -> float | None:
        """For how many seconds to wait for one of the busy containers of `key`; None: start another one.

        `busy`: the task of each and how long its run has gone on, in seconds. `before`: runs that wait already;
        each gets one that comes free before.
        """
        known = sorted(left for task, taken in busy if (left := self.left(task, taken)) is not None)
        if before >= len(known):
            return None
        start = self.start(key)
        # until the start that is not begun now would have been over: what waiting can cost is a start
        return start if known[before] < start else None
