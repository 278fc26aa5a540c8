"""Canceling one run, and with it what stands below it."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, select, update

from coordinator.foundation.errors import NotFound
from coordinator.foundation.states import RUN, sources
from coordinator.history import facts, fingerprints
from coordinator.line import lanes
from coordinator.runs import endings
from coordinator.signals import waking
from coordinator.storage.tables import attempts, runs
from coordinator.wire import ErrorBody


class Canceled(NamedTuple):
    """The run after a cancel; `changed`: it ended now; `topics`: whom that concerns, or the runner that runs it."""

    run: Row[Any]
    changed: bool
    topics: frozenset[str] = frozenset()


def cancel(
    conn: Connection, now: float, run_id: str, why: str | None = None, queued: list[Row[Any]] | None = None
) -> Canceled:
    """Ends a run that has not begun or waits, with `why` as its error; asks for the end of one that runs; leaves a
    finished one alone. Its unfinished children are canceled with it, but those that are detached.

    The request stays with the run: whatever becomes of its attempt, it is not started again. A parent that goes on
    is added to `queued`, where that is given: as with `attempts.end`.
    """
    endings.lock_parent(conn, run_id)
    row = conn.execute(select(runs).where(runs.c.id == run_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"there is no run {run_id!r}")
    waiting = sources(RUN, by="cancelling.cancel")
    if row.status in waiting:
        why = why or ("canceled while it waited" if row.status == "waiting" else "canceled before it started")
        error = fingerprints.know(ErrorBody(type="Canceled", message=why, reason="canceled"))
        values: dict[str, Any] = {
            "status": "canceled",
            **error.columns(),
            "finished_at": now,
            "due_at": None,
            "expires_at": None,
            "deadline_at": None,
        }
    elif row.status == "running":
        values, error = {}, None
    else:
        return Canceled(row, False)
    changed = conn.execute(
        update(runs)
        .where(runs.c.id == run_id, runs.c.status == row.status)
        .values(cancel_requested_at=row.cancel_requested_at or now, **values)
        .returning(*runs.c)
    ).one()
    if not values:
        runner = conn.scalar(select(attempts.c.runner).where(attempts.c.id == changed.current_attempt))
        return Canceled(changed, False, frozenset({waking.run(run_id), waking.commands(str(runner))}))
    facts.runs_ended(conn, now, [changed], error)
    mine: list[Row[Any]] = []
    topics = {waking.run(run_id)} | endings.settle(conn, now, changed, mine)
    if queued is not None:
        queued += mine
    elif mine:
        lanes.enter(conn, mine)
    return Canceled(changed, True, frozenset(topics))
