"""Stems: containers that are started ahead of demand, with the modules imported and nothing run.

Who wishes for one: a deploy, for tasks that ran here lately; a schedule that is about to tick; and a start that had
to be made because all containers of its key were busy, since the next one is likely to be.

Pure, as the warm set: wishes come in, those that are due come out. Each is met once at most, whatever becomes of
the container, so that nothing is started over and over.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache

from runner.spec import ContainerKey

#: Wishes that are remembered: open ones, and those that were met.
_MOST_OPEN, _MOST_MET = 200, 1000
#: Tasks of which it is known when they ran here, and for how long that is lately, in seconds.
_MOST_TASKS, _LATELY = 10_000, 86400.0
#: Seconds within which wishes are spread, so that not all are met at once; and how long one after a start holds.
_SPREAD, _AFTER_START = 1.0, 30.0


@dataclass(frozen=True)
class Wish:
    """A container of `key` to stand ready for `task`; times by the clock, in seconds.

    `supersedes`: those of other versions, which the task's runs were in, leave when it does.
    """

    id: str
    key: ContainerKey
    task: str
    due: float
    until: float
    supersedes: bool = False


class Stems:
    """What is wished for. It starts nothing."""

    def __init__(self, clock: Callable[[], float], rng: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._rng = rng
        self._open: dict[str, Wish] = {}
        self._met: LRUCache[str, None] = LRUCache(maxsize=_MOST_MET)
        #: When each task ran here, and in a container of which key.
        self._ran: LRUCache[tuple[str, str], tuple[float, str]] = LRUCache(maxsize=_MOST_TASKS)
        self._number = 0

    def ran(self, key: ContainerKey, task: str) -> None:
        self._ran[key.project, task] = self._clock(), key.digest

    def lately(self, key: ContainerKey, task: str, *, other: bool = False) -> bool:
        """Whether the task has run here lately. `other`: and its last run was in a container of another key."""
        at, digest = self._ran.get((key.project, task), (-_LATELY, ""))
        return bool(digest) and self._clock() - at <= _LATELY and not (other and digest == key.digest)

    def wish(self, id: str, key: ContainerKey, task: str, within: float, *, supersedes: bool = False) -> None:
        """A container of `key` is wished for, for so many seconds. Said again by its id it is the same wish."""
        if id in self._open or id in self._met or len(self._open) >= _MOST_OPEN:
            return
        now = self._clock()
        due = now + min(_SPREAD, within / 2) * self._rng()
        self._open[id] = Wish(id, key, task, due, now + within, supersedes)

    def after_start(self, key: ContainerKey, task: str) -> None:
        """A container was started because all of `key` were busy."""
        if any(wish.key.digest == key.digest for wish in self._open.values()):
            return
        self._number += 1
        self.wish(f"start:{self._number}", key, task, _AFTER_START)

    def due(self) -> list[Wish]:
        """Those whose time has come; those whose time is over are forgotten."""
        now = self._clock()
        for id in [wish.id for wish in self._open.values() if wish.until <= now]:
            del self._open[id]
        return [wish for wish in self._open.values() if wish.due <= now]

    def met(self, wish: Wish) -> None:
        """There is one, or one is being started."""
        self._open.pop(wish.id, None)
        self._met[wish.id] = None
