"""Facts: that an attempt or a run has ended, and how, in the transaction that ended it.

Whoever ends one calls `attempt_ended` or `runs_ended`: there is no other way to write a fact, and a fact is only
added. History is not counted here: a row of counts would be wanted by all ends of a task at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert

from coordinator.history.fingerprints import Known
from coordinator.storage.prepared import Prepared
from coordinator.storage.tables import facts, runs
from coordinator.wire import FINAL

#: What a run's row has to have to be told of.
OF_RUN = (runs.c.id, runs.c.project, runs.c.task, runs.c.version, runs.c.status, runs.c.created_at)

# inline: nobody wants to know the number that the row gets
_ADD = Prepared(insert(facts).inline())
_NOTHING: dict[str, Any] = {column.name: None for column in facts.columns if column.name != "id"}


def attempt_ended(
    conn: Connection,
    now: float,
    run: Row[Any],
    number: int,
    outcome: str,
    error: Known | None,
    start: str | None,
    cause: str | None,
    log_bytes: int,
) -> None:
    """`run`: its row after the end of the attempt, which may be the run's own. `log_bytes`: of the attempt."""
    fact = _fact(now, run, error)
    fact |= {
        "kind": "attempt",
        "number": number,
        "outcome": outcome,
        "start": start,
        "cause": cause,
        "queued_ms": run.queued_ms,
        "start_ms": run.start_ms,
        "run_ms": run.run_ms,
        "peak_memory": run.peak_memory,
        "memory_limit": run.memory_limit,
        "log_bytes": log_bytes,
    }
    conn.execute(_ADD, fact)


def runs_ended(conn: Connection, now: float, ended: Sequence[Row[Any]], error: Known | None) -> None:
    """Runs that ended while no attempt of theirs was live."""
    if ended:
        conn.execute(_ADD, list(_each(now, ended, error)))


def _each(now: float, ended: Sequence[Row[Any]], error: Known | None) -> Iterable[dict[str, Any]]:
    for run in ended:
        yield {**_fact(now, run, error), "kind": "run"}


def _fact(now: float, run: Row[Any], error: Known | None) -> dict[str, Any]:
    fact = {
        **_NOTHING,
        "at": now,
        "project": run.project,
        "task": run.task,
        "version": run.version,
        "run_id": run.id,
    }
    if run.status in FINAL:
        fact |= {"status": run.status, "total_ms": max(0.0, now - run.created_at) * 1000}
    if error is not None:
        fact |= {
            "reason": error.reason,
            "error_type": error.type,
            "fingerprint": error.fingerprint,
            "title": error.title,
        }
    return fact
