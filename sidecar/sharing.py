"""Which projects share the host: those with an attempt here now, and those that had one lately.

Somebody whose runs are short is here again and again, and not in between: what the others may take must not be all
there is each time that one of them ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic

#: Seconds after its last attempt for which a project counts; as the coordinator's (api/bodies.py).
_LATELY = 2.0


class Sharing:
    def __init__(self, present: Callable[[], Iterable[str]], clock: Callable[[], float] = monotonic) -> None:
        """`present`: the project of each attempt that is here now."""
        self._present = present
        self._clock = clock
        self._seen: dict[str, float] = {}

    def count(self) -> int:
        """How many there are. It is asked for whenever one of them has something to say, and so sees all."""
        now = self._clock()
        for project in self._present():
            self._seen[project] = now
        if len(self._seen) > 1:
            self._seen = {project: seen for project, seen in self._seen.items() if seen > now - _LATELY}
        return len(self._seen)
