"""The pool as the coordinator is told of it: all of it once, then what has changed."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from coordinator.wire import PoolEntry
from runner.container import Container


@dataclass(frozen=True)
class Told:
    """What one heartbeat says: with a `base`, of what is different since that state; else all.

    `state` names what it leads to.
    """

    base: str | None
    state: str
    entries: list[PoolEntry]
    gone: list[str]


class Telling:
    """Remembers what the coordinator has confirmed last."""

    def __init__(self, containers: Iterable[Container], clock: Callable[[], float]) -> None:
        self._containers = containers
        self._clock = clock
        self._boot = uuid.uuid4().hex[:12]
        self._number = 0
        #: What is confirmed, and what was said last; ages are left out, since they change by themselves.
        self._known: dict[str, PoolEntry] | None = None
        self._base = ""
        self._said: tuple[str, dict[str, PoolEntry]] = ("", {})

    def say(self) -> Told:
        now = self._clock()
        current = {c.name: entry(c) for c in self._containers}
        ages = {c.name: max(0.0, now - c.since) for c in self._containers}
        known = self._known
        changed = [e for name, e in current.items() if known is None or known.get(name) != e]
        gone = [] if known is None else [name for name in known if name not in current]
        if known is not None and not changed and not gone:
            state = self._base
        else:
            self._number += 1
            state = f"{self._boot}-{self._number}"
        self._said = (state, current)
        entries = [e.model_copy(update={"age": ages[e.container]}) for e in changed]
        return Told(None if known is None else self._base, state, entries, gone)

    def heard(self, state: str | None) -> None:
        """What the coordinator knows now; where that is not what was said, it is told all of it the next time."""
        said, current = self._said
        if state == said:
            self._base, self._known = said, current
        else:
            self._known = None


def entry(container: Container) -> PoolEntry:
    """As it is told, without its age."""
    c = container
    return PoolEntry(
        container=c.name,
        project=c.key.project,
        image=c.key.image,
        state=c.state,
        memory=c.key.memory,
        runs=c.runs,
        age=0.0,
        attempt=c.assignment.attempt if c.assignment else None,
        task=c.task or None,
        used=c.used,
        worth=c.worth if c.state == "idle" else None,
        prepared=c.unused,
    )
