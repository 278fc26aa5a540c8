"""How processors are divided where they are short: by project first, and within a project by what tasks ask for.

The kernel divides by weight, and each container brings its own: ten busy containers of one project would have ten
times the processors of another's one. So while several projects are busy, each has the same weight in all, whatever
the number of its containers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from runner.container import Container

#: Of a container with one processor, or of all of one project's where there are others: the parts of Samovar that
#: are containers themselves have twice that (compose.yaml).
NORMAL = 1024
#: What the kernel takes at least, and what no container is below or above: the lightest still goes on.
_LEAST, _MOST = 8, 16 * NORMAL
#: How far a weight may be from what it should be before it is set.
_APART = 1.7


def of(cpu: float) -> int:
    """The weight of a container by itself, for `cpu` processors: a power of two."""
    return _bounded(NORMAL * cpu)


class Weights:
    """What was last set of each container; containers begin with `of` their processors."""

    def __init__(self) -> None:
        self._set: dict[str, int] = {}

    def due(self, containers: Iterable[Container]) -> dict[str, int]:
        """The containers whose weight is to be another one now, and that weight.

        Only busy ones count.
        """
        there = list(containers)
        busy = [c for c in there if c.assignment is not None and c.state != "leaving" and c.begun.is_set()]
        asked: dict[str, float] = {}
        for c in busy:
            asked[c.key.project] = asked.get(c.key.project, 0.0) + c.key.cpu
        shared = len(asked) > 1
        due: dict[str, int] = {}
        for c in busy:
            own = of(c.key.cpu)
            wanted = NORMAL * c.key.cpu / asked[c.key.project] if shared else own
            known = self._set.get(c.name, own)
            # one container more or less is no reason to set those of all the others anew
            if (weight := _bounded(wanted)) != known and not known / _APART < wanted < known * _APART:
                due[c.name] = self._set[c.name] = weight
        self._set = {c.name: self._set[c.name] for c in there if c.name in self._set}
        return due

    def failed(self, name: str) -> None:
        """What was to be set was not."""
        self._set.pop(name, None)


def _bounded(weight: float) -> int:
    return int(min(_MOST, max(_LEAST, 2.0 ** round(math.log2(max(1.0, weight))))))
