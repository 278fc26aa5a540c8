"""Which idle containers stay warm: the seed's rules, as one small pure class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from cachetools import LRUCache


@dataclass(frozen=True)
class Idle:
    """A container that stands ready; `since` by the caller's clock, in seconds."""

    name: str
    key: str
    task: str
    since: float


class WarmSet:
    """Idle containers, least recently used first out.

    Caps: `most` in all, `most_per_task` for one task (the one that a container ran last), `keep_alive`
    seconds each. It holds no clock and starts nothing: times come in, names of containers to end come out,
    so that it can be replayed over a trace.
    """

    def __init__(self, *, keep_alive: float, most: int, most_per_task: int) -> None:
        self._keep_alive = keep_alive
        self._most = most
        self._most_per_task = most_per_task
        # one more than the cap, so that the cache itself never drops an entry unseen
        self._idle: LRUCache[str, Idle] = LRUCache(maxsize=most + 1)
        self._tasks: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._idle)

    def __iter__(self) -> Iterator[Idle]:
        """Least recently used first."""
        return iter(sorted(self._idle.values(), key=lambda idle: idle.since))

    def put(self, name: str, key: str, task: str, now: float) -> list[str]:
        """Keeps a container; the names that have to leave for it, which may be its own."""
        leaving: list[str] = []
        if self._tasks[task] >= self._most_per_task:
            oldest = next((idle.name for idle in self if idle.task == task), name)
            leaving.append(oldest)
            if oldest == name:
                return leaving
            self.remove(oldest)
        self._idle[name] = Idle(name, key, task, now)
        self._tasks[task] += 1
        while len(self._idle) > self._most:
            leaving.append(self.evict() or name)
        return leaving

    def take(self, key: str) -> str | None:
        """The container of `key` that was used last (its caches are the warmest); None where there is none."""
        newest: Idle | None = None
        for idle in self._idle.values():
            if idle.key == key and (newest is None or idle.since >= newest.since):
                newest = idle
        if newest is None:
            return None
        self.remove(newest.name)
        return newest.name

    def evict(self) -> str | None:
        """Lets the least recently used one go, because somebody needs its memory."""
        if not self._idle:
            return None
        name, idle = self._idle.popitem()
        self._forget(idle)
        return name

    def expired(self, now: float) -> list[str]:
        """Lets those go that have been idle for `keep_alive`."""
        names = [idle.name for idle in self._idle.values() if now - idle.since >= self._keep_alive]
        for name in names:
            self.remove(name)
        return names

    def remove(self, name: str) -> bool:
        """Whether `name` was idle here."""
        idle = self._idle.pop(name, None)
        if idle is not None:
            self._forget(idle)
        return idle is not None

    def _forget(self, idle: Idle) -> None:
        self._tasks[idle.task] -= 1
        if not self._tasks[idle.task]:
            del self._tasks[idle.task]
