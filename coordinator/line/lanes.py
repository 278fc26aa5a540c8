"""Lanes: queued runs that are alike stand in line behind each other, and claims take turns among the lanes.

Fairness is here. A lane's rank is the place in line of its first run, or the time when the lane was last
served, whichever is later, less the run's priority: so a lane that a thousand runs flooded is served once,
and then comes after every run that was queued meanwhile; lanes that are all full are served in rotation.

The row is a hint that claims put right as they pass. The one promise it keeps: while a run stands in a lane,
`rank` or `opens_at` is not null. Whoever queues a run therefore calls `enter` in the same transaction, and
holds the row until its commit, so that nobody declares the lane empty before the run is seen. Lanes are locked
last in a transaction, and several in the order of their ids.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, or_, select, update

from coordinator.storage import dialect
from coordinator.storage.prepared import Prepared
from coordinator.storage.tables import IS_QUEUED, lanes, runs

#: What one service costs a lane that is served twice in one moment: less than any clock's tick.
STEP = 1e-6
#: An empty lane is forgotten when it was not served for this long: its rank would not depend on it any more.
_IDLE = 600.0
_BATCH = 500

_FIRST = Prepared(
    select(runs.c.order_at, runs.c.priority)
    .where(IS_QUEUED, runs.c.lane == bindparam("lane"))
    .order_by(runs.c.order_at, runs.c.id)
    .limit(1)
)
#: A shared lock: those who queue runs do not wait for each other, but who empties the lane waits for them.
_KNOWN = Prepared(
    select(lanes.c.id)
    .where(
        lanes.c.id == bindparam("lane"), or_(lanes.c.rank <= bindparam("order_at"), lanes.c.opens_at.is_not(None))
    )
    .with_for_update(read=True)
)
_LOCK = Prepared(select(lanes).where(lanes.c.id == bindparam("lane")).with_for_update())
_SOME = Prepared(select(lanes.c.id).where(lanes.c.rank.is_not(None)).limit(1))
_SET = Prepared(
    update(lanes)
    .where(lanes.c.id == bindparam("lane"))
    .values(rank=bindparam("new_rank"), served_at=bindparam("new_served_at"), opens_at=bindparam("new_opens_at"))
)


def name(project: str, queue: str, task: str, key: str | None, memory: int) -> str:
    """The lane's id: the same for runs that are alike."""
    return hashlib.sha256(json.dumps([project, queue, task, key or "", memory]).encode()).hexdigest()[:32]


def rank(first: Row[Any] | None, served_at: float) -> float | None:
    """The rank of a lane with this first run (`order_at`, `priority`); None for none."""
    return None if first is None else max(first.order_at, served_at - first.priority)


def first(conn: Connection, lane: str) -> Row[Any] | None:
    """`order_at` and `priority` of the first run in the lane."""
    return conn.execute(_FIRST, {"lane": lane}).one_or_none()


@cache
def _add(dialect_name: str) -> Prepared:
    return Prepared(dialect.insert(dialect_name, lanes).on_conflict_do_nothing())


def none_waits(conn: Connection) -> bool:
    """Whether no lane has a run whose turn may come now, whatever limits and room."""
    return conn.execute(_SOME).one_or_none() is None


def enter(conn: Connection, queued: Iterable[Row[Any]]) -> None:
    """Tells the lanes of runs (whole rows) that this transaction has queued."""
    waiting: dict[str, Row[Any]] = {}
    for run in queued:
        if run.lane not in waiting or run.order_at < waiting[run.lane].order_at:
            waiting[run.lane] = run
    for lane, run in sorted(waiting.items()):
        if conn.execute(_KNOWN, {"lane": lane, "order_at": run.order_at}).one_or_none() is not None:
            continue
        values = {
            "id": lane,
            "project": run.project,
            "queue": run.queue,
            "key": run.concurrency_key or "",
            "memory": run.memory,
            "served_at": 0.0,
        }
        conn.execute(_add(conn.dialect.name), values)
        row = conn.execute(_LOCK, {"lane": lane}).one()
        if row.opens_at is None:
            _set(conn, lane, rank(first(conn, lane), row.served_at), row.served_at, None)


def lead(conn: Connection, run: Row[Any]) -> None:
    """Gives a queued run, which stands first in its lane, the next turn of its queue."""
    enter(conn, [run])
    row = conn.execute(_LOCK, {"lane": run.lane}).one()
    served_at = min(row.served_at, run.order_at + run.priority)
    ranked = None if row.opens_at is not None else rank(first(conn, run.lane), served_at)
    _set(conn, run.lane, ranked, served_at, row.opens_at)


def settle(conn: Connection, now: float, served: dict[str, int], closed: dict[str, float]) -> None:
    """Puts lanes right after a claim: how many runs it took from each, and until when a rate closes some."""
    for lane in sorted(served):
        row = conn.execute(_LOCK, {"lane": lane}).one_or_none()
        if row is None:
            continue
        served_at = max(now, row.served_at + served[lane] * STEP) if served[lane] else row.served_at
        head = first(conn, lane)
        opens_at = closed.get(lane) if head is not None else None
        _set(conn, lane, None if opens_at else rank(head, served_at), served_at, opens_at)


def open_due(conn: Connection, now: float) -> int:
    """Opens the lanes whose rate lets something start again; how many."""
    due = (
        select(lanes)
        .where(lanes.c.opens_at <= now)
        .order_by(lanes.c.opens_at)
        .limit(_BATCH)
        .with_for_update(skip_locked=True)
    )
    return _open(conn, list(conn.execute(due)))


def reopen(conn: Connection, project: str, queue: str) -> None:
    """Lets claims look at every lane of a queue again: its rate has changed."""
    closed = (
        select(lanes)
        .where(lanes.c.project == project, lanes.c.queue == queue, lanes.c.opens_at.is_not(None))
        .order_by(lanes.c.id)
        .with_for_update()
    )
    _open(conn, list(conn.execute(closed)))


def reopen_of(conn: Connection, deployment: str) -> None:
    """Lets claims look at the lanes again in which queued runs of a deployment stand: they are parked no more."""
    with_runs = select(runs.c.lane).where(IS_QUEUED, runs.c.deployment_id == deployment)
    closed = (
        select(lanes)
        .where(lanes.c.id.in_(with_runs), lanes.c.opens_at.is_not(None))
        .order_by(lanes.c.id)
        .with_for_update()
    )
    _open(conn, list(conn.execute(closed)))


def forget_idle(conn: Connection, now: float) -> None:
    """Deletes rows of lanes that have been empty for long: keys come and go."""
    empty = lanes.c.rank.is_(None) & lanes.c.opens_at.is_(None)
    idle = (
        select(lanes.c.id)
        .where(empty, lanes.c.served_at < now - _IDLE)
        .limit(_BATCH)
        .with_for_update(skip_locked=True)
    )
    conn.execute(delete(lanes).where(lanes.c.id.in_(idle), empty))


def _open(conn: Connection, closed: list[Row[Any]]) -> int:
    for row in closed:
        _set(conn, row.id, rank(first(conn, row.id), row.served_at), row.served_at, None)
    return len(closed)


def _set(conn: Connection, lane: str, rank: float | None, served_at: float, opens_at: float | None) -> None:
    values = {"lane": lane, "new_rank": rank, "new_served_at": served_at, "new_opens_at": opens_at}
    conn.execute(_SET, values)
