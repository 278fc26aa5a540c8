"""Runs: looking them up, listing them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    bindparam,
    case,
    func,
    literal,
    select,
    tuple_,
    union_all,
)

from coordinator.foundation import ids
from coordinator.foundation.errors import NotFound
from coordinator.runs.filters import Filter, looked_for
from coordinator.storage.prepared import Prepared
from coordinator.storage.tables import IS_LIVE, LOG_LEVELS, NOT_COMPLETED, attempts, run_tags, runs

Conditions = Sequence[ColumnElement[bool]]


#: Runs of a tag that are looked up one by one; of a tag with more it is asked of each run whether it has it.
_FEW_TAGGED = 5_000
#: Runs that one page looks at, for conditions that have no index.
_LOOK = 5_000
#: Sorts after every id, whatever the collation.
_LAST = "z"
#: By so many seconds a run's id may be older than its `created_at`: those of earlier versions were made by the
#: process's clock, and that by the database's.
_SKEW = 3600.0

#: What the lines of its attempts do not hold that have ended: those of the one that lives.
_LIVE_LINES = [
    case((IS_LIVE, attempts.c[f"log_{level}"]), else_=0).label(f"live_log_{level}") for level in LOG_LEVELS
]
_WITH_LATEST = runs.outerjoin(attempts, attempts.c.id == runs.c.current_attempt)
_LISTED: Select[Any] = select(runs, *_LIVE_LINES).select_from(_WITH_LATEST)
#: A run with what its latest attempt knows of its start and its phases.
_ONE = Prepared(
    select(
        runs,
        *_LIVE_LINES,
        *(
            attempts.c[name].label(f"attempt_{name}")
            for name in (
                "cause",
                "evicted_by_project",
                "evicted_by_task",
                "queued_ms",
                "placed_ms",
                "starting_ms",
                "importing_ms",
                "handed_ms",
                "ran_ms",
                "reported_ms",
            )
        ),
    )
    .select_from(_WITH_LATEST)
    .where(runs.c.id == bindparam("run"))
)


def get(conn: Connection, now: float, run_id: str) -> Row[Any]:
    row = conn.execute(_ONE, {"run": run_id}).one_or_none()
    if row is None:
        raise NotFound(f"there is no run {run_id!r}")
    return row


class Found(NamedTuple):
    """A page, the newest runs first, and the cursor of the next. `looked_back_to`: where not all that there are
    were looked at, when the oldest of those was made; on the next page it goes on from there.
    """

    rows: list[Row[Any]]
    following: str | None
    looked_back_to: float | None = None


def listing(conn: Connection, now: float, wanted: Filter) -> tuple[list[Row[Any]], str | None]:
    """A page that may have fewer runs than asked for, or none, where another one follows (`search`)."""
    found = search(conn, now, wanted)
    return found.rows, found.following


def search(conn: Connection, now: float, wanted: Filter) -> Found:
    tagged = _tagged(conn, wanted)
    if not wanted.is_looked_for:
        ids_found = _branches(wanted, tagged)
        query = _by_index(_LISTED, wanted, tagged) if ids_found is None else _LISTED.where(runs.c.id.in_(ids_found))
        return _page(conn, query, wanted)
    # of those that an index finds so many, the newest, and no more at once: what fits may be the oldest there is
    wider = wanted._replace(limit=_LOOK - 1)
    branches = _branches(wider, tagged)
    ids_found = _by_index(select(runs.c.id), wider, tagged) if branches is None else branches
    looked_at = ids_found.order_by(ids_found.selected_columns.id.desc()).limit(_LOOK).cte("looked_at")
    looked_at = looked_at.prefix_with("MATERIALIZED", dialect="postgresql")
    count, oldest = conn.execute(select(func.count(), func.min(looked_at.c.id))).one()
    # each of them by its id, and sorted then: in the order of the ids PostgreSQL would read all runs between them
    fitting = (
        select(looked_at.c.id)
        .join_from(looked_at, runs, runs.c.id == looked_at.c.id)
        .where(*looked_for(conn.dialect.name, now, wanted))
        .order_by(func.coalesce(looked_at.c.id, "").desc())
        .limit(wanted.limit + 1)
    )
    found = _page(conn, _LISTED.where(runs.c.id.in_(list(conn.scalars(fitting)))), wanted)
    if found.following is not None or count < _LOOK:
        return found
    return Found(found.rows, oldest, conn.scalar(select(runs.c.created_at).where(runs.c.id == oldest)))


def _page(conn: Connection, query: Select[Any], wanted: Filter, order: ColumnElement[str] = runs.c.id) -> Found:
    rows = list(conn.execute(query.order_by(order.desc()).limit(wanted.limit + 1)))
    more, rows = len(rows) > wanted.limit, rows[: wanted.limit]
    return Found(rows, rows[-1].id if more else None)


def _by_index(query: Select[Any], wanted: Filter, tagged: Conditions) -> Select[Any]:
    query = _fitting(query, wanted, tagged)
    if wanted.statuses:
        query = query.where(runs.c.status.in_(wanted.statuses))
    if wanted.task is not None:
        query = query.where(runs.c.task == wanted.task.rpartition("/")[2])
    if wanted.cursor is not None:
        query = query.where(runs.c.id < wanted.cursor)
    return query


def _branches(wanted: Filter, tagged: Conditions) -> Select[tuple[str]] | None:
    """The ids that a page may have, read in their order from parts of an index; None where it takes no parts."""
    project, _, task = (wanted.task or "").rpartition("/")
    project = project or wanted.project or ""
    if task and wanted.statuses and "completed" not in wanted.statuses:
        parts = list(_of_task(wanted, task, tagged))
    elif wanted.task is None and (
        len(wanted.statuses) > 1 or (wanted.statuses and wanted.is_looked_for and not project)
    ):
        parts = list(_of_statuses(wanted, tagged))
    elif task and project:
        parts = [_of_one(wanted, project, task, tagged)]
    else:
        return None
    together = union_all(*parts).subquery()
    return select(together.c.id)


def count(conn: Connection, now: float, wanted: Filter, most: int) -> int:
    """How many fit, counted to `most`."""
    query = _by_index(select(runs.c.id), wanted, _tagged(conn, wanted))
    query = query.where(*looked_for(conn.dialect.name, now, wanted))
    if wanted.statuses and "completed" not in wanted.statuses:
        query = query.where(NOT_COMPLETED)  # which has an index, and most runs are not in it
    some = query.limit(most).subquery()
    return int(conn.scalar(select(func.count()).select_from(some)) or 0)


def _of_statuses(wanted: Filter, tagged: Conditions) -> Iterator[Select[tuple[str]]]:
    """For each status the ids that a page may have of it: in their order, where all together would be sorted.

    As a range that only ix_runs_status has: of a status with fewer runs than are wanted PostgreSQL would read all
    runs there are in the order of their ids. Not of a project, which may have few of them.
    """
    for status in dict.fromkeys(wanted.statuses):
        if wanted.project is None:
            query = _range(wanted, (runs.c.status, status))
        else:
            query = select(runs.c.id).where(runs.c.status == status, runs.c.id < (wanted.cursor or _LAST))
            query = query.order_by(runs.c.id.desc()).limit(wanted.limit + 1)
        yield select(_fitting(query, wanted, tagged).subquery().c.id)


def _of_task(wanted: Filter, task: str, tagged: Conditions) -> Iterator[Select[tuple[str]]]:
    """The same of one task.

    As a range of (task, status, id) and in that order, which only ix_runs_task_status has: where a task hardly
    ever fails and others do, PostgreSQL takes the one for as likely as the other and reads past all runs there are.
    """
    for status in dict.fromkeys(wanted.statuses):
        query = _range(wanted, (runs.c.task, task), (runs.c.status, status)).where(NOT_COMPLETED)
        # not by an index of projects: SQLite would take that, and sort
        yield select(_fitting(query, wanted, tagged, of=func.coalesce(runs.c.project, "")).subquery().c.id)


def _of_one(wanted: Filter, project: str, task: str, tagged: Conditions) -> Select[tuple[str]]:
    """The ids that a page may have of a task of one project, as a range that only ix_runs_project_task has: two
    projects may have a task of one name, and PostgreSQL takes the one for as frequent as the other.
    """
    query = _range(wanted, (runs.c.project, project), (runs.c.task, task))
    if wanted.statuses:
        query = query.where(runs.c.status.in_(wanted.statuses))
    return select(_fitting(query, wanted, tagged, of=func.coalesce(runs.c.project, "")).subquery().c.id)


def _range(wanted: Filter, *equal: tuple[ColumnElement[str], str]) -> Select[tuple[str]]:
    """The ids of a page of those whose columns are equal to these, the newest first."""
    key = tuple_(*(column for column, _ in equal), runs.c.id)
    first, last = (
        tuple_(*(literal(value) for _, value in equal), literal(end))
        for end in (_first(wanted), wanted.cursor or _LAST)
    )
    order = (*(column.desc() for column, _ in equal), runs.c.id.desc())
    return select(runs.c.id).where(key > first, key < last).order_by(*order).limit(wanted.limit + 1)


def _first(wanted: Filter) -> str:
    """What sorts before all ids that are wanted."""
    return "" if wanted.since is None else ids.least("run", wanted.since - _SKEW)


def _tagged(conn: Connection, wanted: Filter) -> Conditions:
    """That a run has each of the tags: by the list of all that have it, or, where that is long, run by run."""
    found: list[ColumnElement[bool]] = []
    for tag in wanted.tags:
        having = select(run_tags.c.run_id).where(run_tags.c.tag == tag)
        few = having.limit(_FEW_TAGGED).subquery()
        if int(conn.scalar(select(func.count()).select_from(few)) or 0) < _FEW_TAGGED:
            found.append(runs.c.id.in_(having))
        else:
            found.append(having.where(run_tags.c.run_id == runs.c.id).correlate(runs).exists())
    return found


def _fitting(
    query: Select[Any], wanted: Filter, tagged: Conditions, of: ColumnElement[str] = runs.c.project
) -> Select[Any]:
    """With the conditions that are neither the task, the status nor the place in the list."""
    if wanted.task is not None and (project := wanted.task.rpartition("/")[0]):
        query = query.where(of == project)
    if wanted.parent is not None:
        query = query.where(runs.c.parent == wanted.parent)
    if wanted.project is not None:
        query = query.where(of == wanted.project)
    query = query.where(*tagged)
    if wanted.since is not None:
        # by the id as well, in whose order runs are read: so nothing is read past that is older
        query = query.where(runs.c.created_at >= wanted.since, runs.c.id >= _first(wanted))
    if wanted.dead_letter:
        query = query.where(runs.c.dead_at.is_not(None))
    if wanted.error is not None:
        query = query.where(runs.c.error_fingerprint == wanted.error)
    if wanted.names:
        query = query.where(runs.c.id.in_(wanted.names))
    return query


def list_attempts(conn: Connection, now: float, run_id: str) -> list[Row[Any]]:
    rows = list(conn.execute(select(attempts).where(attempts.c.run_id == run_id).order_by(attempts.c.number)))
    if not rows:
        get(conn, now, run_id)  # is it there at all
    return rows
