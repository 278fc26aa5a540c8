"""The end of an attempt in rows: the attempt is closed and its run moved on, each by one guarded UPDATE.

Called by attempts.py, which has checked whose end it is and decided what it makes of the run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select, update

from coordinator.access import leases
from coordinator.attempts import phases
from coordinator.foundation.limits import MAX_ERROR_MESSAGE, MAX_TRACEBACK
from coordinator.foundation.states import ATTEMPT, DEAD, RUN, sources
from coordinator.history import fingerprints
from coordinator.history.fingerprints import Known
from coordinator.line import lanes
from coordinator.storage.prepared import Prepared
from coordinator.storage.tables import LOG_LEVELS, attempts, checkpoints, runs
from coordinator.storage.values import Stored, encode_small
from coordinator.tasks.retries import End, Verdict
from coordinator.wire import FINAL, AttemptLogLine, Curve, ErrorBody

#: What an attempt that ends leaves in checkpoints and logs.
_LEFT = select(
    func.coalesce(
        select(func.sum(checkpoints.c.size))
        .where(checkpoints.c.run_id == attempts.c.run_id, checkpoints.c.attempt_id == attempts.c.id)
        .scalar_subquery(),
        0,
    )
    + attempts.c.log_bytes
).where(attempts.c.id == bindparam("attempt"))


@dataclass(frozen=True)
class Ending:
    """How an attempt ended, whoever says so."""

    end: End
    error: ErrorBody | None = None
    result: Stored = field(default_factory=Stored)
    retry_allowed: bool = True
    retry_after: float | None = None
    exit_code: int | None = None
    peak_memory: int | None = None
    #: What is to be kept in place of what was told so far.
    curve: Curve | None = None
    lines: list[AttemptLogLine] = field(default_factory=list)
    digest: str | None = None
    #: The keys of what it waits for, where it ended in waits.
    waits: list[str] = field(default_factory=list)
    #: Seconds since it was said here; and since the container has said it, where that is known.
    waited: float = 0.0
    reported: float | None = None
    #: What the runner knows of an attempt that never began.
    placed: dict[str, Any] = field(default_factory=dict)


def close(
    conn: Connection,
    now: float,
    attempt_id: str,
    token: int,
    ending: Ending,
    verdict: Verdict,
    error: Known | None,
    began: float | None,
) -> Row[Any]:
    """The attempt's guarded UPDATE: its status after it, and the bytes and the lines by level of its log so far.

    Raises StaleAttempt.
    """
    statuses = {"out_of_memory": "failed", "rejected": "failed", "waiting": "suspended", "no_image": "lost"}
    status = statuses.get(ending.end, ending.end)
    if status == "canceled" and verdict.status != "canceled":
        status = "lost"
    values = {
        "status": status,
        "finished_at": now,
        "exit_code": ending.exit_code,
        "peak_memory": ending.peak_memory,
        "finish_digest": ending.digest,
        **(fingerprints.NO_ERROR if error is None else error.columns()),
        **phases.at_end(began, now, ending.reported),
        **(ending.placed if began is None else {}),
        **({} if ending.curve is None else {"curve": encode_small(ending.curve.model_dump(exclude_none=True))}),
    }
    given = {"attempt": attempt_id, "held_token": token, **{f"to_{name}": value for name, value in values.items()}}
    closed = conn.execute(_closing(frozenset(values)), given).one_or_none()
    if closed is None:
        raise leases.stale(attempt_id)
    return closed


@cache
def _closing(names: frozenset[str]) -> Prepared:
    """The UPDATE that sets these columns, of which there are a few sets."""
    return Prepared(
        update(attempts)
        .where(
            attempts.c.id == bindparam("attempt"),
            attempts.c.token == bindparam("held_token"),
            attempts.c.status.in_(sources(ATTEMPT, by="attempts.end")),
        )
        .values(said(names))
        .returning(attempts.c.status, attempts.c.log_bytes, *(attempts.c[f"log_{level}"] for level in LOG_LEVELS))
    )


def move(
    conn: Connection,
    now: float,
    attempt_id: str,
    found: Row[Any],
    ending: Ending,
    verdict: Verdict,
    error: Known | None,
    lines: Row[Any],
) -> Row[Any]:
    """The run's guarded UPDATE; the run after it. `lines`: those of the attempt's log, by level."""
    values: dict[str, Any] = {
        "status": verdict.status,
        "memory": verdict.memory,
        "failures": verdict.failures,
        "ooms": verdict.ooms,
        "losses": verdict.losses,
        "peak_memory": ending.peak_memory,
    }
    if found.attempt_started_at is not None:
        values["run_ms"] = max(0.0, now - ending.waited - found.attempt_started_at) * 1000
    if verdict.memory != found.memory:
        values["lane"] = lanes.name(found.project, found.queue, found.task, found.concurrency_key, verdict.memory)
    if verdict.status in FINAL:
        values |= {"finished_at": now, **(fingerprints.NO_ERROR if error is None else error.columns())}
        if verdict.status == "completed":
            values |= {"result": ending.result.text, "result_blob": ending.result.blob}
        values |= {"deadline_at": None, "dead_at": now if verdict.status in DEAD else None}
    elif verdict.status == "waiting":
        pass  # whoever wakes it gives it a new place in line
    elif verdict.delay > 0:
        due_at = now + verdict.delay
        values |= {"due_at": due_at, "queued_at": due_at, "order_at": due_at - found.priority}
    else:
        # its place in line is the old one: it has waited its turn already
        values |= {"queued_at": now}
    given = {"run": found.run_id, "attempt": attempt_id, "size": ending.result.size}
    given |= {f"to_{name}": value for name, value in values.items()}
    given |= {f"more_{level}": lines._mapping[f"log_{level}"] for level in LOG_LEVELS}
    moved = conn.execute(_moving(frozenset(values)), given).one_or_none()
    if moved is None:
        raise leases.stale(attempt_id)
    return moved


@cache
def _moving(names: frozenset[str]) -> Prepared:
    """The UPDATE that sets these columns: there are no more kinds of end than a few."""
    values = said(names)
    values |= {f"log_{level}": runs.c[f"log_{level}"] + bindparam(f"more_{level}") for level in LOG_LEVELS}
    values["bytes"] = runs.c.bytes + bindparam("size") + _LEFT.scalar_subquery()
    return Prepared(
        update(runs)
        .where(
            runs.c.id == bindparam("run"),
            runs.c.current_attempt == bindparam("attempt"),
            runs.c.status.in_(sources(RUN, by="attempts.end")),
        )
        .values(**values)
        .returning(*runs.c)
    )


def error(ending: Ending, verdict: Verdict) -> Known | None:
    """The error that the attempt is closed with, and the run if it ends: never missing, never endless."""
    if ending.end == "completed" or (ending.end == "waiting" and verdict.status != "canceled"):
        return None
    default: dict[End, ErrorBody] = {
        "timed_out": ErrorBody(type="TimedOut", message="ran out of time", reason="timeout"),
        "canceled": ErrorBody(type="Canceled", message="canceled on request", reason="canceled"),
        "waiting": ErrorBody(type="Canceled", message="canceled when it came to a wait", reason="canceled"),
        "lost": ErrorBody(type="Lost", message="the attempt was lost", reason="lost"),
    }
    error = ending.error or default.get(ending.end) or ErrorBody(type="Failed", message="failed without a word")
    # the traceback is kept to its end: the last frames and the exception say the most
    traceback = error.traceback and error.traceback[-MAX_TRACEBACK:]
    message = error.message[:MAX_ERROR_MESSAGE]
    reason = error.reason
    if ending.end == "lost" and verdict.status == "failed":
        message = f"the platform lost this run {verdict.losses} times, which is its limit; the last time: {message}"
    if verdict.status == "canceled":
        reason = "canceled"
    said = error.model_copy(update={"message": message, "traceback": traceback, "reason": reason})
    return fingerprints.know(said)


def said(names: Iterable[str]) -> dict[str, Any]:
    """Values of an UPDATE that are said when it is executed: `to_{name}` of each column."""
    return {name: bindparam(f"to_{name}") for name in sorted(names)}
