"""What the end of a run means to others: its waits are closed, its children are canceled, its parent goes on.

Whoever ends a run does this in the same transaction. A run's parent is locked before the run itself
(`lock_parent`), so that two children that end at once do not both find the other one unfinished, and so that a
parent that is canceled and a child that ends never wait for each other crosswise.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, exists, or_, select, update

from coordinator.foundation.states import RUN, sources
from coordinator.history import facts, fingerprints
from coordinator.signals import waking
from coordinator.storage import dialect
from coordinator.storage.prepared import Prepared
from coordinator.storage.tables import IS_PENDING, IS_RUNNING, attempts, runs, waits
from coordinator.storage.values import encode_small
from coordinator.waits import waits as waiting
from coordinator.wire import ErrorBody

#: Runs that one statement names.
_BATCH = 1000

_CANCELED = fingerprints.know(
    ErrorBody(type="Canceled", message="canceled with the run that triggered it", reason="canceled")
)

_PARENT_OF = select(runs.c.parent).where(runs.c.id == bindparam("run")).scalar_subquery()
_PARENT_OF_ATTEMPT = (
    select(runs.c.parent)
    .join_from(attempts, runs, runs.c.id == attempts.c.run_id)
    .where(attempts.c.id == bindparam("attempt"))
    .scalar_subquery()
)
_LOCK_OF = Prepared(select(runs.c.id).where(runs.c.id == _PARENT_OF).with_for_update())
_LOCK_OF_ATTEMPT = Prepared(select(runs.c.id).where(runs.c.id == _PARENT_OF_ATTEMPT).with_for_update())


def lock_parent(conn: Connection, run_id: str) -> None:
    """Before the lock of a run that may end now."""
    if dialect.locks_rows(conn):
        conn.execute(_LOCK_OF, {"run": run_id})


def lock_parent_of_attempt(conn: Connection, attempt_id: str) -> None:
    if dialect.locks_rows(conn):
        conn.execute(_LOCK_OF_ATTEMPT, {"attempt": attempt_id})


def settle(conn: Connection, now: float, run: Row[Any], queued: list[Row[Any]]) -> set[str]:
    """What follows from the end of `run` (its row, final); the topics. A parent that goes on joins `queued`."""
    topics = _let_go(conn, now, [run.id], canceled=run.status == "canceled") if run.attempts else set()
    if run.parent is not None:
        topics |= _tell_parent(conn, now, run, queued)
    return topics


def _tell_parent(conn: Connection, now: float, run: Row[Any], queued: list[Row[Any]]) -> set[str]:
    """Resolves the waits of the parent that this was the last run of."""
    unfinished = exists().where(
        runs.c.parent == run.parent, runs.c.parent_key == waits.c.key, runs.c.finished_at.is_(None)
    )
    alone = (waits.c.kind == "run") & (waits.c.runs == encode_small([run.id]))
    last = (waits.c.kind == "batch") & (waits.c.key == run.parent_key) & ~unfinished
    keys = conn.scalars(select(waits.c.key).where(waits.c.run_id == run.parent, IS_PENDING, or_(alone, last)))
    found = list(keys)
    return waiting.resolve_children(conn, now, run.parent, found, queued) if found else set()


def _let_go(conn: Connection, now: float, ended: list[str], *, canceled: bool) -> set[str]:
    """Closes the waits of ended runs and cancels the children that nobody waits for any more."""
    closed = waiting.close(conn, now, ended)
    of: ColumnElement[bool] = runs.c.parent.in_(ended)
    if canceled:
        of = of & runs.c.detached.is_(False)
    else:
        keys = [row.key for row in closed if row.kind in ("run", "batch")]
        if not keys:
            return set()
        of = of & runs.c.parent_key.in_(keys)
    return _cancel_all(conn, now, of)


def _cancel_all(conn: Connection, now: float, of: ColumnElement[bool]) -> set[str]:
    """Cancels the unfinished ones of the runs, and their children in turn."""
    unfinished = select(runs.c.id).where(of, runs.c.finished_at.is_(None)).order_by(runs.c.id)
    found = conn.execute(unfinished.with_for_update()).all()
    topics: set[str] = set()
    for first in range(0, len(found), _BATCH):
        topics |= _cancel(conn, now, [row.id for row in found[first : first + _BATCH]])
    return topics


def _cancel(conn: Connection, now: float, names: list[str]) -> set[str]:
    ended = conn.execute(
        update(runs)
        .where(runs.c.id.in_(names), runs.c.status.in_(sources(RUN, by="cancelling.cancel")))
        .values(
            status="canceled",
            **_CANCELED.columns(),
            finished_at=now,
            due_at=None,
            expires_at=None,
            deadline_at=None,
            cancel_requested_at=now,
        )
        .returning(*facts.OF_RUN)
    ).all()
    facts.runs_ended(conn, now, ended, _CANCELED)
    running = (
        update(runs)
        .where(runs.c.id.in_(names), IS_RUNNING, runs.c.cancel_requested_at.is_(None))
        .values(cancel_requested_at=now)
        .returning(runs.c.current_attempt)
    )
    asked = list(conn.scalars(running))
    hosts = conn.scalars(select(attempts.c.runner).where(attempts.c.id.in_(asked)).distinct()) if asked else ()
    topics = {waking.run(run.id) for run in ended} | {waking.commands(host) for host in hosts}
    return topics | (_let_go(conn, now, [run.id for run in ended], canceled=True) if ended else set())
