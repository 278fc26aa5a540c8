"""How processors are divided where they are short: by project first, and within a project by what tasks ask for.

The kernel divides by weight, and each container brings its own: ten busy containers of one project would have ten
times the processors of another's one. So while several projects are busy, each has the same weight in all, whatever
the number of its containers.

To set a weight costs the engine as much as a tenth of a start, and runs are short: a project counts as busy for a
while after its last run, and a container becomes heavier only when it should have been for as long.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from runner.container import Container

#: Of a container with one processor, or of all of one project's where there are others: the parts of Samovar that
#: are containers themselves have twice that (compose.yaml).
NORMAL = 1024
#: What the kernel takes at least, and what no container is below or above: the lightest still goes on.
_LEAST, _MOST = 8, 16 * NORMAL
#: How far a weight may be from what it should be before it is set.
_APART = 1.7
#: Seconds after which a project is not busy any more, and for which a container should be heavier before it is.
_WHILE = 10.0


def of(cpu: float) -> int:
    """The weight of a container by itself, for `cpu` processors: a power of two."""
    return _bounded(NORMAL * cpu)


class Weights:
    """What was last set of each container; containers begin with `of` their processors."""

    def __init__(self) -> None:
        self._set: dict[str, int] = {}
        #: Since when each should be heavier than it is.
        self._heavier: dict[str, float] = {}
        #: When each project had a run last.
        self._seen: dict[str, float] = {}

    def due(self, containers: Iterable[Container], now: float) -> dict[str, int]:
        """The containers whose weight is to be another one now, and that weight. `now`: by the pool's clock.

        Only busy ones are weighed.
        """
        there = {c.name: c for c in containers}
        busy = [c for c in there.values() if c.assignment is not None and c.state != "leaving" and c.begun.is_set()]
        asked: dict[str, float] = {}
        for c in busy:
            asked[c.key.project] = asked.get(c.key.project, 0.0) + c.key.cpu
        shared = len(self._lately(asked, there.values(), now)) > 1
        due: dict[str, int] = {}
        for c in busy:
            own = of(c.key.cpu)
            wanted = NORMAL * c.key.cpu / asked[c.key.project] if shared else own
            known = self._set.get(c.name, own)
            weight = _bounded(wanted)
            # one container more or less is no reason to set those of all the others anew
            if weight == known or known / _APART < wanted < known * _APART:
                self._heavier.pop(c.name, None)
            elif weight < known or self._heavier.setdefault(c.name, now) <= now - _WHILE:
                self._heavier.pop(c.name, None)
                due[c.name] = self._set[c.name] = weight
        self._set = {name: weight for name, weight in self._set.items() if name in there}
        self._heavier = {name: since for name, since in self._heavier.items() if name in there}
        return due

    def _lately(self, busy: Iterable[str], there: Iterable[Container], now: float) -> Collection[str]:
        """The projects that are busy, or were a short while ago; most runs end between two looks."""
        for c in there:
            if c.serving > self._seen.get(c.key.project, now - _WHILE):
                self._seen[c.key.project] = c.serving
        self._seen.update(dict.fromkeys(busy, now))
        self._seen = {project: at for project, at in self._seen.items() if at > now - _WHILE}
        return self._seen

    def failed(self, name: str) -> None:
        """What was to be set was not."""
        self._set.pop(name, None)


def _bounded(weight: float) -> int:
    return int(min(_MOST, max(_LEAST, 2.0 ** round(math.log2(max(1.0, weight))))))
