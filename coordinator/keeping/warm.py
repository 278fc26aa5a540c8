"""Which idle containers stay warm: one small pure class, and the rules of it that can be chosen.

`greedy-dual` (Greedy-Dual-Size-Frequency): the container that saves least for the memory it holds leaves first,
`H = clock + uses x seconds of a start / memory`. The clock becomes the H of whoever has left, so that what was used
much and long ago leaves in its turn. `lru` is its corner in which all save the same; `ttl` is that with an end: an
idle container leaves after `keep_alive` even where nobody wants its memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from cachetools import Cache, LRUCache

Rule = Literal["greedy-dual", "lru", "ttl", "lfu"]

#: Without a word of the operator: the rule, idle containers in all and of one task, with `ttl` the seconds of one,
#: and how many are started at a time.
RULE: Literal["greedy-dual"] = "greedy-dual"
MOST, MOST_PER_TASK, KEEP_ALIVE, STARTS = 50, 5, 60.0, 4

_MIB = 1024**2
#: Of keys, how many places are remembered with their uses when no container is left in them.
_KEYS = 10_000


@dataclass(frozen=True)
class Idle:
    """A container that stands ready; `since` by the caller's clock, in seconds."""

    name: str
    key: str
    task: str
    since: float
    #: Bytes that it holds, and seconds that it would take to start another one of its key.
    memory: int = 1
    cost: float = 1.0


class _GreedyDual(Cache[str, Idle]):
    """Orders by H; among equals, who was put here longest ago comes first.

    Uses are counted by how many of the key stood ready already: the fifth container of a busy task is one that is
    seldom used, and leaves long before its first.
    """

    def __init__(self, most: int, *, uses: bool, saves: bool, ages: bool) -> None:
        super().__init__(maxsize=most)
        self._by_uses, self._by_saving, self._ages = uses, saves, ages
        self._uses: LRUCache[tuple[str, int], int] = LRUCache(maxsize=_KEYS)
        self._ready: Counter[str] = Counter()
        self._worth: dict[str, tuple[float, int]] = {}
        self._clock = 0.0
        self._number = 0

    def __setitem__(self, name: str, idle: Idle) -> None:
        place = (idle.key, self._ready[idle.key])
        uses = self._uses[place] = self._uses.get(place, 0) + 1
        worth = uses if self._by_uses else 1
        saving = idle.cost / max(1.0, idle.memory / _MIB) if self._by_saving else 1.0
        self._number += 1
        self._worth[name] = (self._clock + worth * saving, self._number)
        self._ready[idle.key] += 1
        super().__setitem__(name, idle)

    def __delitem__(self, name: str) -> None:
        key = self[name].key
        super().__delitem__(name)
        del self._worth[name]
        self._ready[key] -= 1
        if not self._ready[key]:
            del self._ready[key]

    def worth(self, name: str) -> float | None:
        found = self._worth.get(name)
        return None if found is None else found[0]

    def popitem(self) -> tuple[str, Idle]:
        name = min(self._worth, key=lambda name: self._worth[name])
        if self._ages:
            self._clock = self._worth[name][0]
        return name, self.pop(name)


class WarmSet:
    """Idle containers, and who of them leaves first.

    Caps: `most` in all, `most_per_task` for one task (the one that a container ran last), and with the rule `ttl`
    `keep_alive` seconds each. It holds no clock and starts nothing: times come in, names of containers to end come
    out, so that it can be replayed over a trace (replay.py).
    """

    def __init__(self, *, keep_alive: float, most: int, most_per_task: int, rule: Rule = RULE) -> None:
        self._keep_alive = keep_alive
        self._ends = rule == "ttl"
        self._most = most
        self._most_per_task = most_per_task
        # one more than the cap, so that the cache itself never drops an entry unseen
        self._idle = _GreedyDual(
            most + 1, uses=rule in ("greedy-dual", "lfu"), saves=rule == "greedy-dual", ages=rule != "lfu"
        )
        self._tasks: Counter[str] = Counter()
        #: The names of a key's, last used last.
        self._of: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._idle)

    def __iter__(self) -> Iterator[Idle]:
        """Those longest idle first."""
        return iter(sorted(self._idle.values(), key=lambda idle: idle.since))

    def put(self, name: str, key: str, task: str, now: float, memory: int = 1, cost: float = 1.0) -> list[str]:
        """Keeps a container; the names that have to leave for it, which may be its own.

        `memory`: bytes. `cost`: seconds that another one of its key would take to start.
        """
        leaving: list[str] = []
        if self._tasks[task] >= self._most_per_task:
            oldest = next((idle.name for idle in self if idle.task == task), name)
            leaving.append(oldest)
            if oldest == name:
                return leaving
            self.remove(oldest)
        self._idle[name] = Idle(name, key, task, now, memory, cost)
        self._tasks[task] += 1
        self._of.setdefault(key, {})[name] = None
        while len(self._idle) > self._most:
            leaving.append(self.evict() or name)
        return leaving

    def take(self, key: str) -> str | None:
        """The container of `key` that was used last (its caches are the warmest); None where there is none."""
        names = self._of.get(key)
        if not names:
            return None
        name = next(reversed(names))
        self.remove(name)
        return name

    def has_room(self, task: str) -> bool:
        """Whether one more of `task` could be kept without another one leaving for it."""
        return len(self._idle) < self._most and self._tasks[task] < self._most_per_task

    def worth(self, name: str) -> float | None:
        """H of an idle container; None where it is not idle here."""
        return self._idle.worth(name)

    def evict(self) -> str | None:
        """Lets the one of the least worth go, because somebody needs its memory."""
        if not len(self._idle):
            return None
        name, idle = self._idle.popitem()
        self._forget(idle)
        return name

    def expired(self, now: float) -> list[str]:
        """With the rule `ttl`, lets those go that have been idle for `keep_alive`."""
        if not self._ends:
            return []
        names = [idle.name for idle in self._idle.values() if now - idle.since >= self._keep_alive]
        for name in names:
            self.remove(name)
        return names

    def remove(self, name: str) -> bool:
        """Whether `name` was idle here."""
        if name not in self._idle:
            return False
        self._forget(self._idle.pop(name))
        return True

    def _forget(self, idle: Idle) -> None:
        del self._of[idle.key][idle.name]
        if not self._of[idle.key]:
            del self._of[idle.key]
        self._tasks[idle.task] -= 1
        if not self._tasks[idle.task]:
            del self._tasks[idle.task]
