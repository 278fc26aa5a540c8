"""The container as process 1 finds it: what is in it, how it stands, and what a run has left there.

A run is over in milliseconds, and this is looked at after each: the kernel is asked for what it counts anyway, and
only where that says that there is something does anybody go and look for it.
"""

from __future__ import annotations

import os

from samovar.harness import cleanup, holding
from samovar.harness.gauges import Gauges, Watched
from samovar.harness.settings import Settings
from samovar.wire import Message

#: Process 1 and the zygote, of one thread each: all there is between runs.
_ALONE = 2
#: The share of its limit from which on it is asked who holds the memory.
_NEAR = 0.8


class Container:
    """Begins with process 1 alone; then the zygote is there, then one run after the other."""

    def __init__(self, settings: Settings) -> None:
        self._is_first = settings.is_first
        self._gauges = Gauges()
        self._scratch = cleanup.Scratch(settings.scratch)
        self._folders = settings.scratch
        self._zygote = 0
        self._watched: list[Watched] = []
        self._standing: list[tuple[object, ...]] = []
        #: Whether the count of tasks is this container's own: it has to have followed the zygote's start. Else
        #: lists are read instead of it.
        self._counts = self._is_first and self._gauges.tasks() == 1
        self._oom_before = self._gauges.oom_kills()

    def begin(self, zygote: int) -> None:
        """The project is imported: what is there now is what every run begins with."""
        self._zygote = zygote
        self._watched = [Watched(os.getpid()), Watched(zygote or -1)]
        self._standing = self._stand()
        self._scratch.remember()
        self._counts = self._counts and self._gauges.tasks() == _ALONE

    def forget_oom_kills(self) -> None:
        """Those before the first run are not of it. Between two runs there is nobody to be killed."""
        self._oom_before = self._gauges.oom_kills()

    def oom_kills(self) -> int:
        """Of the run."""
        return self._gauges.oom_kills() - self._oom_before

    def memory_limit(self) -> int:
        return self._gauges.memory_limit()

    def memory(self) -> int:
        """Resident bytes of process 1 and the zygote."""
        return sum(watched.resident_memory() for watched in self._watched)

    def held_memory(self) -> int:
        """Bytes that everything in the container holds now; 0 where that is not told."""
        return self._gauges.unreclaimable_memory() if self._is_first else 0

    def is_near(self, memory: int) -> bool:
        """Whether so many bytes are near the limit."""
        return 0 < self._gauges.memory_limit() * _NEAR <= memory

    def holders(self, run: int | None) -> Message:
        """Who holds the memory now: `memory`, `scratch`, `processes`. `run`: the pid of the run's process."""
        names = {os.getpid(): "process 1", self._zygote: "zygote"}
        if run:
            names[run] = "run"
        return {"memory": self.held_memory(), **holding.look(self._folders, names)}

    def peak(self, known: int, oom_kills: int = 0) -> int:
        """The most memory that the run is known to have had, in bytes, `known` included."""
        if not self._is_first:
            return known
        return max(known, self._gauges.highest_memory() if oom_kills else self.held_memory())

    def processes(self, zygote: int, kept: int = 0) -> cleanup.Processes:
        """Those that a run may have left, with the zygote as it is now (0: it is dead). `kept` stays too."""
        alone = _ALONE + (kept != 0)
        return cleanup.Processes(
            self._is_first,
            tuple(pid for pid in (zygote, kept) if pid),
            lambda: self._counts and zygote != 0 and self._gauges.tasks() == alone,
        )

    def leave(self, *, well: bool, killed: int) -> Message:
        """Wipes, when no process of the run is left: `container` of `finish`. `well`: whether its end was."""
        stuck = self._scratch.wipe()
        oom_kills = self.oom_kills()
        self._oom_before += oom_kills
        unmoved = self._stand() == self._standing
        return {
            "clean": well and not killed and not stuck and not oom_kills and unmoved,
            "leftovers": killed + stuck,
            "oom_kills": oom_kills,
            "memory": self.memory(),
        }

    def _stand(self) -> list[tuple[object, ...]]:
        """A run that has changed this would have changed the next run's start."""
        return [watched.standing() for watched in self._watched]
