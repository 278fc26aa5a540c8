"""Which projects share the host: those with an attempt here now, and those that had one lately.

Somebody whose runs are short is here again and again, and not in between: what the others may take must not be all
there is each time that one of them ends.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from time import monotonic

#: Seconds after its last attempt for which a project counts; as the coordinator's (api/bodies.py).
_LATELY = 2.0


class Sharing:
    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        #: Attempts of each project that are here.
        self._here: Counter[str] = Counter()
        #: Projects that have none any more, and since when; the latest comes last.
        self._gone: OrderedDict[str, float] = OrderedDict()

    def come(self, project: str) -> None:
        """An attempt of the project is here."""
        self._here[project] += 1
        self._gone.pop(project, None)

    def go(self, project: str) -> None:
        """It is not any more."""
        self._here[project] -= 1
        if not self._here[project]:
            del self._here[project]
            self._gone[project] = self._clock()
            self.count()  # whom nobody asks about is not kept either

    def count(self) -> int:
        """How many projects there are."""
        before = self._clock() - _LATELY
        while self._gone and next(iter(self._gone.values())) <= before:
            self._gone.popitem(last=False)
        return len(self._here) + len(self._gone)
