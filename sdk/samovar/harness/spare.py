"""A process for the next run, forked before there is one: it waits for what it is to run, and does nothing else.

To fork takes half of the way from an assignment to the first line of user code; so it is done when the run before
is over and nothing of it is left, and no other run has come at once: that one would have to wait for the fork, and
so would whoever has just been told of the end. What waits is a process as any run's: it comes from the zygote, and
nothing of another run is in it. A container that nobody uses does without, for it takes memory; so does one whose
runs are further apart than it would wait.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from samovar.harness.ends import Ends
from samovar.harness.logs import BATCH

TYPE_CHECKING = False  # of `typing`, which process 1 would import for nothing else
if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds without a run before one is forked; and those that it then waits.
_QUIET = 0.01
_WAITS = 5.0


class Spare:
    """`order`: has the zygote begin a process with these ends, in the way that is named."""

    def __init__(
        self, order: Callable[[str, Ends], None], pids: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`pids`: the pipe into which the zygote writes of each process who it is."""
        self._order = order
        self._clock = clock
        self._pids = pids
        self._ends: Ends | None = None
        self._start = ""
        self._until: float | None = None
        #: When the last run was over, and whether the latest began while it would have waited.
        self._over: float | None = None
        self._often = True
        #: Those that were let go of, and whose end the zygote has not told yet.
        self._leaving = 0

    @property
    def settled(self) -> bool:
        """Whether all that the zygote says is of the run in progress."""
        return not self._leaving

    @property
    def deadline(self) -> float | None:
        """When it is forked or let go of, by the clock."""
        return self._until

    def prepare(self, start: str | None) -> None:
        """No run goes on: has one stand ready for a run that begins in this way, in a moment, where runs come often
        enough. None: there is to be none.
        """
        self._over = self._clock()
        if start is not None and self._ends is None and self._often:
            self._start, self._until = start, self._clock() + _QUIET

    def take(self, start: str) -> Ends | None:
        """A run begins in this way: the one that stands ready for it. One for another is let go of."""
        self._often = self._over is not None and self._clock() - self._over <= _WAITS
        if self._ends is None or self._start != start:
            self.let_go()
            return None
        ends, self._ends, self._until = self._ends, None, None
        return ends

    def let_go(self) -> None:
        self._until = None
        if self._ends is not None:
            self._ends.close()
            self._ends = None
            self._leaving += 1

    def tick(self) -> None:
        if self._until is None or self._clock() < self._until:
            return
        if self._ends is not None:
            self.let_go()
            return
        self._ends, self._until = Ends(), self._clock() + _WAITS
        self._order(self._start, self._ends)

    def ended(self) -> int | None:
        """One that no run was given has ended, as the zygote says. The pid of the run in progress, if known."""
        if self._ends is not None:
            # by itself, or somebody has killed it
            self._ends.close()
            self._ends = self._until = None
        elif self._leaving:
            self._leaving -= 1
        said: list[bytes] = []
        with suppress(OSError):
            said = os.read(self._pids, BATCH).split()
        return int(said[-1]) if len(said) > 1 else None
