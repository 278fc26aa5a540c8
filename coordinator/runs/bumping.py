"""Putting a queued run at the front of its queue."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from coordinator.foundation.errors import Conflict, NotFound
from coordinator.line import lanes as line
from coordinator.storage.tables import IS_QUEUED, lanes, runs

#: Seconds by which it stands before the one that was first.
_AHEAD = 0.001


def bump(conn: Connection, now: float, run_id: str) -> Row[Any]:
    """Whatever its priority: only limits and memory hold it up now. The run. Raises NotFound, Conflict."""
    run = conn.execute(select(runs).where(runs.c.id == run_id).with_for_update()).one_or_none()
    if run is None:
        raise NotFound(f"there is no run {run_id!r}")
    if run.status != "queued":
        raise Conflict(
            f"the run {run_id} is {run.status}: only a queued one stands in line and can be put at its front",
            code="not_queued",
        )
    of_queue = (runs.c.project == run.project) & (runs.c.queue == run.queue)
    turns = (lanes.c.project == run.project) & (lanes.c.queue == run.queue) & lanes.c.rank.is_not(None)
    places = [
        run.order_at,
        conn.scalar(select(func.min(runs.c.order_at)).where(IS_QUEUED, of_queue, runs.c.id != run.id)),
        conn.scalar(select(func.min(lanes.c.rank)).where(turns)),
    ]
    front = min(place for place in places if place is not None) - _AHEAD
    run = conn.execute(
        update(runs).where(runs.c.id == run.id, IS_QUEUED).values(order_at=front).returning(*runs.c)
    ).one()
    line.lead(conn, run)
    return run
