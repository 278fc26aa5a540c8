"""Many runs at once, as a row: what is to be done with all that fit, how far that has come, and what went wrong.

It begins after a grace, until which nothing was done and it may be taken back. Each run is one transaction, which
moves the row's cursor past it: whoever carries it out, however often that is killed, no run is seen to twice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from coordinator.access.keys import Caller
from coordinator.foundation import ids
from coordinator.foundation.errors import Conflict, CoordinatorError, NotFound
from coordinator.foundation.times import iso
from coordinator.runs import cancelling, failures, filters, runs, triggers
from coordinator.runs.plans import Plan
from coordinator.signals import waking
from coordinator.storage.tables import bulk_outcomes, bulks, keys
from coordinator.storage.tables import runs as table
from coordinator.storage.values import Stored, decode, encode_small
from coordinator.wire import Bulk, BulkCreate, BulkOutcome, RunFilter

#: Of one of them: problems and replays that are kept by the run; of others only the number is.
MOST_PROBLEMS, MOST_REPLAYS = 1000, 100
#: Of one key, and in all: those that are not over.
_OPEN_OF_KEY, _OPEN = 20, 200
#: Characters of a problem.
_WORDS = 1000

_IS_OPEN = bulks.c.finished_at.is_(None)
_DUE = (
    select(bulks)
    .where(_IS_OPEN, bulks.c.starts_at <= bindparam("now"))
    .order_by(bulks.c.progressed_at, bulks.c.id)
    .limit(1)
)
_NEXT = select(func.min(bulks.c.starts_at)).where(_IS_OPEN)
_PAST = (
    update(bulks)
    .where(
        bulks.c.id == bindparam("bulk"),
        _IS_OPEN,
        bulks.c.status == "running",
        bulks.c.cursor == bindparam("before"),
    )
    .values(
        cursor=bindparam("run"),
        done=bulks.c.done + bindparam("well"),
        problems=bulks.c.problems + bindparam("badly"),
        progressed_at=bindparam("at"),
    )
    .returning(bulks.c.done, bulks.c.problems)
)


class Superseded(CoordinatorError):
    """Somebody else has seen to this run, or it was taken back: there is nothing more to do here."""


class Due(NamedTuple):
    """What is to be gone on with, and seconds until the next one begins; None for none."""

    row: Row[Any] | None
    left: float | None


class Done(NamedTuple):
    """`run`: the run as it is now, or the one that was made of it."""

    run: Row[Any]
    topics: frozenset[str] = frozenset()


# ---------------------------------------------------------------- asked for, looked at, taken back


def create(
    conn: Connection, now: float, body: BulkCreate, wanted: filters.Filter, expected: int, caller: Caller
) -> Row[Any]:
    """`wanted`: what `body.filter` says, with its times fixed; `expected`: how many fit.

    Raises Conflict (`too_many`).
    """
    mine = select(func.count()).select_from(bulks).where(_IS_OPEN, bulks.c.key_id == caller.id)
    if int(conn.scalar(mine) or 0) >= _OPEN_OF_KEY or _open(conn) >= _OPEN:
        raise Conflict(
            f"more than {_OPEN_OF_KEY} of this key, or {_OPEN} in all, are not over yet: wait for them, or take "
            "them back",
            code="too_many",
        )
    newest = conn.scalar(select(func.max(table.c.id))) or ""
    values = {
        "id": ids.new("blk", now),
        "act": body.act,
        "status": "waiting",
        "filter": encode_small(filters.stored(wanted)),
        "version": body.version,
        "project": caller.project or wanted.project,
        "key_id": caller.id,
        "key_name": caller.name,
        "role": caller.role,
        # sorts after the newest run there is, and before all that are made from now on
        "cursor": f"{newest}0",
        "expected": expected,
        "done": 0,
        "problems": 0,
        "created_at": now,
        "starts_at": now + body.grace,
        "progressed_at": now,
    }
    return conn.execute(insert(bulks).values(**values).returning(*bulks.c)).one()


def _open(conn: Connection) -> int:
    return int(conn.scalar(select(func.count()).select_from(bulks).where(_IS_OPEN)) or 0)


def get(conn: Connection, now: float, bulk: str) -> Row[Any]:
    """Raises NotFound."""
    row = conn.execute(select(bulks).where(bulks.c.id == bulk)).one_or_none()
    if row is None:
        raise NotFound(f"there is no bulk {bulk!r}")
    return row


def listing(
    conn: Connection, now: float, project: str | None, cursor: str | None, limit: int
) -> tuple[list[Row[Any]], str | None]:
    query = select(bulks).order_by(bulks.c.id.desc()).limit(limit + 1)
    if project is not None:
        query = query.where(bulks.c.project == project)
    if cursor is not None:
        query = query.where(bulks.c.id < cursor)
    rows = list(conn.execute(query))
    more, rows = len(rows) > limit, rows[:limit]
    return rows, rows[-1].id if more else None


def outcomes(
    conn: Connection, now: float, bulk: str, problems: bool | None, cursor: str | None, limit: int
) -> tuple[list[Row[Any]], str | None]:
    """What became of its runs, as far as that is kept. Raises NotFound."""
    query = select(bulk_outcomes).where(bulk_outcomes.c.bulk_id == bulk)
    if problems is not None:
        query = query.where(bulk_outcomes.c.problem.is_not(None) if problems else bulk_outcomes.c.problem.is_(None))
    if cursor is not None:
        query = query.where(bulk_outcomes.c.run_id < cursor)
    rows = list(conn.execute(query.order_by(bulk_outcomes.c.run_id.desc()).limit(limit + 1)))
    if not rows:
        get(conn, now, bulk)
    more, rows = len(rows) > limit, rows[:limit]
    return rows, rows[-1].run_id if more else None


def take_back(conn: Connection, now: float, bulk: str) -> Row[Any]:
    """Nothing more is done: before it has begun, nothing at all. Raises NotFound, Conflict (`over`)."""
    for before, after in (("waiting", "taken_back"), ("running", "stopped")):
        row = conn.execute(
            update(bulks)
            .where(bulks.c.id == bulk, bulks.c.status == before)
            .values(status=after, finished_at=now)
            .returning(*bulks.c)
        ).one_or_none()
        if row is not None:
            return row
    row = get(conn, now, bulk)
    if row.status in ("taken_back", "stopped"):
        return row
    raise Conflict(f"it is {row.status}: there is nothing to take back", code="over")


def hurry(conn: Connection, now: float, bulk: str) -> Row[Any]:
    """It begins now, if it has not. Raises NotFound, Conflict (`over`)."""
    sooner = update(bulks).where(bulks.c.id == bulk, bulks.c.status == "waiting", bulks.c.starts_at > now)
    conn.execute(sooner.values(starts_at=now))
    row = get(conn, now, bulk)
    if row.finished_at is not None:
        raise Conflict(f"it is {row.status.replace('_', ' ')}: there is nothing to begin", code="over")
    return row


def shown(row: Row[Any]) -> Bulk:
    return Bulk(
        id=row.id,
        act=row.act,
        status=row.status,
        filter=RunFilter.model_validate(decode(row.filter)),
        version=row.version,
        project=row.project,
        key=row.key_name,
        expected=row.expected,
        done=row.done,
        problems=row.problems,
        problem=row.problem,
        created_at=iso(row.created_at),
        starts_at=iso(row.starts_at),
        finished_at=iso(row.finished_at),
    )


def outcome(row: Row[Any]) -> BulkOutcome:
    return BulkOutcome(run=row.run_id, replay=row.replay, problem=row.problem)


# ---------------------------------------------------------------- carried out


def due(conn: Connection, now: float) -> Due:
    """The one that has waited longest of those that have begun, or are to."""
    next_at = conn.scalar(_NEXT)
    if next_at is None or next_at > now:
        return Due(None, None if next_at is None else next_at - now)
    return Due(conn.execute(_DUE, {"now": now}).one_or_none(), 0.0)


def begin(conn: Connection, now: float, bulk: str) -> Row[Any] | None:
    """The row, running; None where it was taken back, or its key was revoked meanwhile."""
    row = conn.execute(select(bulks).where(bulks.c.id == bulk, _IS_OPEN).with_for_update()).one_or_none()
    if row is None:
        return None
    valid = conn.scalar(select(keys.c.id).where(keys.c.id == row.key_id, keys.c.revoked_at.is_(None)))
    if valid is None:
        why = f"the key {row.key_name!r}, which has asked for it, was revoked"
        conn.execute(update(bulks).where(bulks.c.id == bulk).values(status="stopped", finished_at=now, problem=why))
        return None
    if row.status == "running":
        return row
    started = update(bulks).where(bulks.c.id == bulk).values(status="running").returning(*bulks.c)
    return conn.execute(started).one()


def page(conn: Connection, now: float, row: Row[Any], wanted: filters.Filter) -> list[Row[Any]]:
    """The runs that come next: the newest that fit, before its cursor; fewer than `wanted.limit` are the last."""
    found: list[Row[Any]] = []
    cursor: str | None = row.cursor
    while cursor is not None and len(found) < wanted.limit:
        rest = wanted._replace(cursor=cursor, limit=wanted.limit - len(found))
        rows, cursor = runs.listing(conn, now, rest)
        found += rows
    return found


def see_to(
    conn: Connection, now: float, bulk: str, before: str, run: str, act: str, planned: Plan | None = None
) -> Done:
    """Does it to one run, and moves on from `before`, where the cursor stood. Raises Superseded, and what the act
    raises.
    """
    seen = _move(conn, now, bulk, before, run, well=True)
    if act == "cancel":
        canceled = cancelling.cancel(conn, now, run)
        return Done(canceled.run, canceled.topics)
    if act == "dismiss":
        return Done(failures.dismiss(conn, now, run))
    assert planned is not None
    made = triggers.create(conn, now, planned, planned.stored or Stored())
    if seen.done <= MOST_REPLAYS:
        conn.execute(insert(bulk_outcomes).values(bulk_id=bulk, run_id=run, replay=made.run.id))
    return Done(made.run, frozenset(made.topics))


def give_up(conn: Connection, now: float, bulk: str, before: str, run: str, problem: str) -> None:
    """Moves on past a run to which it could not be done. Raises Superseded."""
    seen = _move(conn, now, bulk, before, run, well=False)
    if seen.problems <= MOST_PROBLEMS:
        conn.execute(insert(bulk_outcomes).values(bulk_id=bulk, run_id=run, problem=problem[:_WORDS]))


def finish(conn: Connection, now: float, bulk: str, before: str) -> None:
    """Nothing more fits."""
    these = (bulks.c.id == bulk) & (bulks.c.status == "running") & (bulks.c.cursor == before)
    conn.execute(update(bulks).where(these).values(status="done", finished_at=now))


def _move(conn: Connection, now: float, bulk: str, before: str, run: str, *, well: bool) -> Row[Any]:
    moved = conn.execute(
        _PAST, {"bulk": bulk, "before": before, "run": run, "well": int(well), "badly": int(not well), "at": now}
    ).one_or_none()
    if moved is None:
        raise Superseded(f"{bulk} has gone on from {before!r}, or is over")
    return moved


def forget(conn: Connection, before: float, most: int) -> int:
    """Removes some of those that were over before then, with what became of their runs; how many."""
    found = list(conn.scalars(select(bulks.c.id).where(bulks.c.finished_at < before).limit(most)))
    conn.execute(delete(bulk_outcomes).where(bulk_outcomes.c.bulk_id.in_(found)))
    conn.execute(delete(bulks).where(bulks.c.id.in_(found)))
    return len(found)


def topic(bulk: str) -> str:
    return waking.bulk(bulk)
