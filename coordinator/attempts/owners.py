"""Whose an attempt is: what is written for it waits in its project's line (foundation/turns.py).

An attempt's project never changes, so what was looked up once is kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, select

from coordinator.foundation import turns
from coordinator.storage.database import Database
from coordinator.storage.prepared import Prepared
from coordinator.storage.tables import attempts, runs

#: Attempts that are remembered: more than are live at one time on any fleet of a coordinator.
_MOST = 20_000
_FIND = Prepared(
    select(attempts.c.id, runs.c.project)
    .join_from(attempts, runs, attempts.c.run_id == runs.c.id)
    .where(attempts.c.id.in_(bindparam("wanted", expanding=True)))
)


class Owners:
    """Used from the event loop's thread only."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[str, str] = OrderedDict()

    def note(self, attempt: str, project: str) -> None:
        """Of an attempt that is being given out."""
        self._known[attempt] = project
        self._known.move_to_end(attempt)
        while len(self._known) > _MOST:
            self._known.popitem(last=False)

    async def line(self, attempt: str) -> str:
        """The line of what is written for an attempt whose secret was shown."""
        return (await self.lines([attempt]))[attempt]

    async def lines(self, named: Iterable[str]) -> dict[str, str]:
        """The same of several. One that is not there (any more) has our own: all that it gets is a refusal."""
        named = set(named)
        # (not by `named - self._known.keys()`, which goes through all that are known)
        if unknown := [attempt for attempt in named if attempt not in self._known]:
            for attempt, project in await self._database.read(_find, sorted(unknown)):
                self.note(attempt, project)
        return {attempt: self._line(attempt) for attempt in named}

    def _line(self, attempt: str) -> str:
        project = self._known.get(attempt)
        return turns.OWN if project is None else f"attempts:{project}"


def _find(conn: Connection, now: float, wanted: list[str]) -> list[tuple[str, str]]:
    return [(row.id, row.project) for row in conn.execute(_FIND, {"wanted": wanted})]
