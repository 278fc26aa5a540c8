"""Idempotency keys: whose a key is, and when it is free again.

A key is unique in the database per project and task, so of two triggers that race one makes the run. It stays with
its run for as long as the trigger said, or as the run is kept; but a run that ended without ever having been taken
(skipped, expired, canceled in line) did nothing that could happen twice, and keeps it from nobody.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select, update

from coordinator.foundation.errors import Conflict, NotFound, invalid_field
from coordinator.foundation.limits import MAX_DELAY
from coordinator.runs.targets import Target
from coordinator.storage.tables import runs


def never_ran(run: Row[*tuple[Any, ...]]) -> bool:
    """Whether a run has ended, and no runner ever had it."""
    return run.finished_at is not None and run.attempts == 0


def owner(conn: Connection, now: float, target: Target, key: str | None, fingerprint: str) -> Row[Any] | None:
    """The run whose the key is; None where it is free. Raises Conflict (`idempotency_conflict`)."""
    run = None if key is None else _holder(conn, target, key)
    if run is None or _free(run, now):
        return None
    _check_same(run, fingerprint)
    return run


def take(conn: Connection, now: float, target: Target, key: str | None, fingerprint: str) -> Row[Any] | None:
    """As `owner`; a key that is free again is taken from the run that has it, for the one that is made next."""
    run = None if key is None else _holder(conn, target, key)
    if run is not None and _free(run, now):
        # of two that come here at once the second finds it taken already, and then the new run by its key
        _release(conn, run)
        return None
    if run is not None:
        _check_same(run, fingerprint)
    return run


def release(conn: Connection, now: float, run_id: str) -> Row[Any]:
    """Frees the key of a run, whatever became of it; the run. Raises NotFound, Conflict (`no_key`)."""
    run = conn.execute(select(runs).where(runs.c.id == run_id).with_for_update()).one_or_none()
    if run is None:
        raise NotFound(f"there is no run {run_id!r}")
    if run.idempotency_key is None:
        raise Conflict(f"the run {run_id} has no idempotency key, or has given it up already", code="no_key")
    _release(conn, run)
    return conn.execute(select(runs).where(runs.c.id == run_id)).one()


def check(key: str | None, ttl: float | None) -> None:
    """Raises Invalid for a time that no key can be kept, and for one without a key."""
    if ttl is None:
        return
    if key is None:
        raise invalid_field("idempotency_ttl", "says how long an idempotency_key is kept: give that too")
    if not 0 < ttl <= MAX_DELAY:
        raise invalid_field("idempotency_ttl", f"{ttl:g} s: give more than 0, and at most 366 days")


def _check_same(run: Row[Any], fingerprint: str) -> None:
    if run.fingerprint != fingerprint:
        raise Conflict(
            f"the idempotency key {run.idempotency_key!r} was used for the run {run.id} with another body: send "
            f"the same body, take another key, or free this one with samovar runs release-key {run.id}",
            code="idempotency_conflict",
        )


def _holder(conn: Connection, target: Target, key: str) -> Row[Any] | None:
    of = (runs.c.project == target.project) & (runs.c.task == target.task)
    return conn.execute(select(runs).where(of, runs.c.idempotency_key == key)).one_or_none()


def _free(run: Row[Any], now: float) -> bool:
    return never_ran(run) or (run.key_until is not None and run.key_until <= now)


def _release(conn: Connection, run: Row[Any]) -> None:
    conn.execute(
        update(runs)
        .where(runs.c.id == run.id, runs.c.idempotency_key == run.idempotency_key)
        .values(idempotency_key=None, key_until=None)
    )
