"""Facts folded into `history`: a row for each task and hour in which something of it ended, and for each day; and
one for all tasks of its project.

A fact is counted in its hour and in its day at once, so that there is no third step in which one could be counted
twice: the days are kept for longer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite

from coordinator.history.figures import MEASURES, Figures, of_row
from coordinator.storage import dialect
from coordinator.storage.tables import history

STEPS = {"hour": 3600, "day": 86400}
#: Tasks of a project that are told apart in one day; what is beyond is counted together.
MOST_TASKS = 1000
OTHER = "_other"
#: Where all tasks of a project are counted together, so that no look at a project reads the rows of each.
ALL = ""


class Key(NamedTuple):
    """A row of history; `at`: when its hour or day begins, in seconds since the epoch."""

    project: str
    task: str
    step: str
    at: int


_FOUND = select(history).where(
    history.c.project == bindparam("of"),
    history.c.task.in_(bindparam("names", expanding=True)),
    history.c.step == bindparam("each"),
    history.c.at == bindparam("begun"),
)
_KNOWN = (
    select(func.count())
    .select_from(history)
    .where(history.c.step == "day", history.c.at == bindparam("begun"), history.c.project == bindparam("of"))
    .where(history.c.task.not_in((ALL, OTHER)))
)


def fold(conn: Connection, facts: Sequence[Row[Any]]) -> None:
    """Counts `facts`; whoever calls it is the only one who does, until the transaction ends."""
    named = _named(conn, facts)
    fresh: dict[Key, Figures] = {}
    for fact in facts:
        day = begin(fact.at, "day")
        task = named[fact.project, day].get(fact.task, OTHER)
        for step in STEPS:
            key = Key(fact.project, task, step, begin(fact.at, step))
            fresh.setdefault(key, Figures()).fold(fact)
    for key, figures in list(fresh.items()):
        fresh.setdefault(key._replace(task=ALL), Figures()).add(figures)
    for key, known in _stored(conn, fresh).items():
        fresh[key].add(known)
    rows = [{**key._asdict(), **figures.columns()} for key, figures in sorted(fresh.items())]
    conn.execute(_keep(conn.dialect.name), rows)


def begin(at: float, step: str) -> int:
    """When the hour or the day begins that `at` is in."""
    return int(at // STEPS[step]) * STEPS[step]


def _named(conn: Connection, facts: Sequence[Row[Any]]) -> dict[tuple[str, int], dict[str, str]]:
    """For each project and day the names under which its tasks are counted; those without one are OTHER.

    Who has been counted on a day by its name is so until the day's end; of those that come new the most used do.
    """
    used: dict[tuple[str, int], Counter[str]] = {}
    for fact in facts:
        used.setdefault((fact.project, begin(fact.at, "day")), Counter())[fact.task] += 1
    named = {}
    for (project, day), tasks in used.items():
        given = {"of": project, "names": list(tasks), "each": "day", "begun": day}
        known = {row.task for row in conn.execute(_FOUND, given)}
        new = [task for task, _ in tasks.most_common() if task not in known]
        if new:
            room = MOST_TASKS - int(conn.scalar(_KNOWN, {"of": project, "begun": day}) or 0)
            known |= set(new[: max(0, room)])
        named[project, day] = {task: task for task in known}
    return named


def _stored(conn: Connection, keys: dict[Key, Figures]) -> dict[Key, Figures]:
    together: dict[tuple[str, str, int], list[str]] = {}
    for key in keys:
        together.setdefault((key.project, key.step, key.at), []).append(key.task)
    found = {}
    for (project, step, at), names in together.items():
        given = {"of": project, "names": names, "each": step, "begun": at}
        for row in conn.execute(_FOUND, given):
            found[Key(row.project, row.task, row.step, row.at)] = of_row(row)
    return found


@cache
def _keep(dialect_name: str) -> sqlite.Insert | postgresql.Insert:
    adding = dialect.insert(dialect_name, history)
    changed = {name: adding.excluded[name] for name in ("counts", "sums", *MEASURES)}
    return adding.on_conflict_do_update(index_elements=list(Key._fields), set_=changed)
