"""Bytes of logs by project, out of history and of what is under way: no look at the logs, or at all runs."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, Float, cast, func, select

from coordinator.history import series
from coordinator.storage import dialect
from coordinator.storage.tables import IS_LIVE, attempts, history, projects, runs

DAY = 86400.0
#: Projects of one look, in the order of their names; and days, where logs are kept for good.
MOST, _DAYS = 500, 400


class Logged(NamedTuple):
    """`day`: bytes of what ended in the last 24 hours, to within an hour, or is under way; `kept`: since the oldest
    day of which runs are kept.
    """

    project: str
    day: int
    kept: int


def log_bytes(conn: Connection, now: float, keep: float) -> list[Logged]:
    """Of each project. `keep`: for how many seconds runs are kept; 0 for good."""
    names = list(conn.scalars(select(projects.c.name).order_by(projects.c.name).limit(MOST)))
    days = _ended(conn, names, "day", now - (min(keep, _DAYS * DAY) if keep else _DAYS * DAY))
    hours = _ended(conn, names, "hour", now - DAY)
    query = select(runs.c.project, func.sum(attempts.c.log_bytes)).join_from(
        attempts, runs, attempts.c.run_id == runs.c.id
    )
    live = {
        project: int(size or 0) for project, size in conn.execute(query.where(IS_LIVE).group_by(runs.c.project))
    }
    return [
        Logged(name, hours.get(name, 0) + live.get(name, 0), days.get(name, 0) + live.get(name, 0))
        for name in names
    ]


def _ended(conn: Connection, names: list[str], step: str, since: float) -> dict[str, int]:
    """By the primary key: of each project the row of all its tasks for each day or hour."""
    size = cast(dialect.json_text(conn.dialect.name, history.c.sums, "logs"), Float)
    query = (
        select(history.c.project, func.sum(size))
        .where(history.c.project.in_(names), history.c.task == series.ALL, history.c.step == step)
        .where(history.c.at >= series.begin(since, step))
        .group_by(history.c.project)
    )
    return {project: int(found or 0) for project, found in conn.execute(query)}
