"""Who may start a container next: few at a time, a share for each project, in turns, and later for those that fail.

A start costs the engine and the processors most until process 1 runs; so a slot is held until that has connected to
the sidecar, or for a few seconds. What it imports then takes is its own container's. One project never has all
slots, because its process 1 may be made never to connect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

#: Seconds that a project waits after its second failure in a row, and at most; each doubles it, the first is free.
_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
#: Projects of which failures and turns are remembered.
_MOST_PROJECTS = 10_000


@dataclass(eq=False)
class Waiter:
    """A run that waits for its container to be started."""

    project: str
    memory: int
    number: int


class Starts:
    """Slots, turns and pauses. It holds no clock of its own and starts nothing."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._share = max(1, most - 1)
        self._clock = clock
        self._waiters: list[Waiter] = []
        self._held: Counter[str] = Counter()
        #: When a project last began a start, counted in starts.
        self._turns: dict[str, int] = {}
        self._failures: dict[str, tuple[int, float]] = {}
        self._number = 0

    def wait(self, project: str, memory: int) -> Waiter:
        """Takes a place in the line."""
        self._number += 1
        waiter = Waiter(project, memory, self._number)
        self._waiters.append(waiter)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        self._waiters.remove(waiter)

    def is_next(self, waiter: Waiter, fits: Callable[[int], bool]) -> bool:
        """Whether it is this one's turn: of those that may start, the first whose memory fits, else the first.

        The project whose last start is the longest ago comes first; within a project, who came first.
        """
        if self._held.total() >= self._most:
            return False
        able = [w for w in self._waiters if self._held[w.project] < self._share and not self.pause(w.project)]
        able.sort(key=lambda w: (self._turns.get(w.project, 0), w.number))
        first = next((w for w in able if fits(w.memory)), able[0] if able else None)
        return first is waiter

    @property
    def quiet(self) -> bool:
        """Whether nothing is being started, and nobody waits for it."""
        return not self._waiters and not self._held.total()

    def goes_first(self, fits: Callable[[int], bool]) -> bool:
        """Whether a removal had better wait: something is being started or in line, and none of it for memory."""
        return not self.quiet and all(fits(waiter.memory) for waiter in self._waiters)

    def begin(self, project: str) -> None:
        """Takes a slot."""
        self._number += 1
        self._turns.pop(project, None)
        self._turns[project] = self._number
        if len(self._turns) > _MOST_PROJECTS:
            del self._turns[next(iter(self._turns))]
        self._held[project] += 1

    def end(self, project: str) -> None:
        """Gives the slot back."""
        self._held[project] -= 1
        if not self._held[project]:
            del self._held[project]

    def failed(self, project: str) -> None:
        """A container of the project died before it was ready, or was not ready in time."""
        count = self._failures.pop(project, (0, 0.0))[0] + 1
        pause = 0.0 if count == 1 else min(_LONGEST_PAUSE, _PAUSE * float(1 << min(count - 2, 16)))
        self._failures[project] = (count, self._clock() + pause)
        if len(self._failures) > _MOST_PROJECTS:
            del self._failures[next(iter(self._failures))]

    def succeeded(self, project: str) -> None:
        self._failures.pop(project, None)

    def pause(self, project: str) -> float:
        """Seconds until the project may start a container; 0 where it may now."""
        _, until = self._failures.get(project, (0, 0.0))
        return max(0.0, until - self._clock())
