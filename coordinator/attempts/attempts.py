"""Attempts from their start to their end. Every function is one transaction under the attempt's token.

Locks are taken run first, then attempt, everywhere: two transactions never wait for each other crosswise.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select, update

from coordinator.access import leases
from coordinator.attempts import closing, phases
from coordinator.attempts.closing import Ending
from coordinator.foundation.errors import NotFound, TooMuch, invalid_field
from coordinator.foundation.limits import MAX_METADATA
from coordinator.foundation.states import ATTEMPT, LIVE, sources
from coordinator.history import facts
from coordinator.line import lanes
from coordinator.runs import endings, failures, logs, plans
from coordinator.storage import quota
from coordinator.storage.prepared import Prepared
from coordinator.storage.tables import IS_LIVE, attempts, runs, tasks
from coordinator.storage.values import Stored, decode, digest, encode, encode_small
from coordinator.tasks import retries
from coordinator.tasks.index import stored_options
from coordinator.tasks.retries import End, Random, SoFar
from coordinator.waits import waits
from coordinator.wire import FINAL, ErrorBody, Finish, Lost, Report, Started

#: The attempt with its run, the run locked, and the task's options.
_OF_ATTEMPT = Prepared(
    select(
        attempts.c.token,
        attempts.c.number,
        attempts.c.status.label("attempt_status"),
        attempts.c.started_at.label("attempt_started_at"),
        attempts.c.finish_digest,
        attempts.c.start.label("attempt_start"),
        attempts.c.cause,
        runs.c.id.label("run_id"),
        runs.c.project,
        runs.c.task,
        runs.c.queue,
        runs.c.concurrency_key,
        runs.c.status.label("run_status"),
        runs.c.current_attempt,
        runs.c.memory,
        runs.c.failures,
        runs.c.ooms,
        runs.c.losses,
        runs.c.priority,
        runs.c.order_at,
        runs.c.cancel_requested_at,
        runs.c.deadline_at,
        tasks.c.options,
    )
    .join_from(attempts, runs, runs.c.id == attempts.c.run_id)
    .join(tasks, (tasks.c.deployment_id == runs.c.deployment_id) & (tasks.c.task == runs.c.task))
    .where(attempts.c.id == bindparam("attempt"))
    .with_for_update(of=runs)
)


_NO_WAIT = ErrorBody(
    type="NothingToWaitFor", message="the attempt ended to wait, but for nothing that this run has asked for"
)


# Statements of the hot path are built once.

_BEGIN = Prepared(
    update(attempts)
    .where(attempts.c.id == bindparam("attempt"), attempts.c.status.in_(sources(ATTEMPT, by="attempts.start")))
    .values(
        status="running",
        start=bindparam("how"),
        started_at=bindparam("began"),
        **{column: bindparam(f"with_{column}") for column in phases.AT_START},
    )
)
_RUN_BEGINS = Prepared(
    update(runs)
    .where(runs.c.id == bindparam("run"), runs.c.current_attempt == bindparam("attempt"))
    .values(
        started_at=func.coalesce(runs.c.started_at, bindparam("began")),
        start=bindparam("how"),
        start_ms=bindparam("took"),
    )
)
_METADATA = Prepared(select(runs.c.metadata).where(runs.c.id == bindparam("run")))


_CURVE = Prepared(update(attempts).where(attempts.c.id == bindparam("attempt")).values(curve=bindparam("told")))


@dataclass(frozen=True)
class Ended:
    """What the end of an attempt made of its run. `repeated`: the same end had been taken before. `entered`: runs
    have come into the line with it. `topics`: whom it concerns besides the run's own.
    """

    run: str
    status: str
    due_at: float | None = None
    repeated: bool = False
    entered: bool = False
    topics: frozenset[str] = frozenset()

    @property
    def final(self) -> bool:
        return self.status in FINAL


def start(conn: Connection, now: float, attempt_id: str, body: Started, waited: float = 0.0) -> str:
    """User code is about to run, or was `waited` seconds ago; the run's id. Said twice, it counts once.

    Raises StaleAttempt.
    """
    held = leases.require(conn, now, attempt_id, body.token)
    if held.status == "running":
        return str(held.run_id)
    began = max(held.claimed_at, now - waited)
    known = phases.at_start(body, max(0.0, began - held.claimed_at))
    placed = {f"with_{column}": value for column, value in known.items()}
    conn.execute(_BEGIN, {"attempt": attempt_id, "how": body.start, "began": began, **placed})
    values = {"attempt": attempt_id, "run": held.run_id, "how": body.start, "began": began}
    conn.execute(_RUN_BEGINS, {**values, "took": max(0.0, began - held.claimed_at) * 1000})
    return str(held.run_id)


def run_of(conn: Connection, now: float, attempt_id: str) -> str:
    """The id of an attempt's run. Raises StaleAttempt where there is no such attempt."""
    found: str | None = conn.scalar(select(attempts.c.run_id).where(attempts.c.id == attempt_id))
    if found is None:
        raise leases.stale(attempt_id)
    return found


def report(conn: Connection, now: float, attempt_id: str, body: Report) -> str:
    """Progress replaces progress, as the curve does; metadata is merged key by key. The run's id.

    Raises StaleAttempt, TooLarge.
    """
    held = leases.require(conn, now, attempt_id, body.token)
    values: dict[str, str] = {}
    if body.progress is not None:
        values["progress"] = encode(body.progress, "progress", MAX_METADATA).text
    if body.metadata is not None:
        kept = decode(conn.scalar(_METADATA, {"run": held.run_id})) or {}
        values["metadata"] = encode({**kept, **body.metadata}, "metadata", MAX_METADATA).text
    if values:
        given = {f"to_{name}": text for name, text in values.items()}
        conn.execute(_reporting(frozenset(values)), {"run": held.run_id, **given})
    if body.curve is not None:
        conn.execute(
            _CURVE, {"attempt": attempt_id, "told": encode_small(body.curve.model_dump(exclude_none=True))}
        )
    return str(held.run_id)


@cache
def _reporting(names: frozenset[str]) -> Prepared:
    return Prepared(update(runs).where(runs.c.id == bindparam("run")).values(closing.said(names)))


def extend(conn: Connection, now: float, attempt_id: str, token: int, seconds: float) -> None:
    """Gives the attempt `seconds` beyond its task's timeout, unless it has more already. Raises StaleAttempt.

    It is kept so that a runner that adopts the attempt knows it.
    """
    leases.require(conn, now, attempt_id, token)
    if seconds > 366 * 86400:
        raise invalid_field("seconds", f"{seconds:g} is too long: at most 366 days")
    longer = (attempts.c.id == attempt_id) & (attempts.c.extended < seconds)
    conn.execute(update(attempts).where(longer).values(extended=seconds))


def _digest(body: Finish, result: Stored) -> str:
    """By which an account is known when it comes again; a large result is in it by the name of its blob."""
    if result.blob is None:
        return digest(body.model_dump(mode="json", exclude={"lines", "held", "curve"}))
    said = body.model_dump(mode="json", exclude={"lines", "held", "curve", "result"})
    return digest({**said, "result": result.blob})


def finish(
    conn: Connection,
    now: float,
    attempt_id: str,
    body: Finish,
    result: Stored,
    rng: Random = random.random,
    waited: float = 0.0,
    taken: float | None = None,
) -> Ended:
    """The attempt's own account of its end, said `waited` seconds ago.

    `taken`: when it was taken in here, by the monotonic clock, to go into a transaction. Raises StaleAttempt,
    unless this very account was taken before.
    """
    ending = Ending(
        end=_end_of(body),
        error=body.error,
        result=result,
        retry_allowed=body.retry.allowed,
        retry_after=body.retry.after,
        exit_code=body.exit_code,
        peak_memory=body.peak_memory_bytes,
        curve=body.curve,
        lines=body.lines,
        digest=_digest(body, result),
        waits=body.waits,
        waited=waited,
        reported=body.held + waited + (0.0 if taken is None else time.monotonic() - taken),
    )
    if body.outcome == "completed" and result.size > quota.SMALL:
        try:
            _check_result(conn, attempt_id, result)
        except (TooMuch, quota.DiskFull) as error:
            ending = _not_kept(ending, error.message)
    return end(conn, now, attempt_id, body.token, ending, rng)


def _check_result(conn: Connection, attempt_id: str, result: Stored) -> None:
    run = conn.scalar(select(attempts.c.run_id).where(attempts.c.id == attempt_id, IS_LIVE))
    if run is not None:
        quota.check_bytes_of_run(conn, run, result.size)


def _not_kept(ending: Ending, why: str) -> Ending:
    """The end of a run whose result there is no room for."""
    error = ErrorBody(type="ResultNotStored", message=f"the result was not kept: {why}", reason="rejected")
    return replace(
        ending, end="failed", error=error, result=Stored(), retry_allowed=False, retry_after=None, waits=[]
    )


def lost(conn: Connection, now: float, attempt_id: str, body: Lost, rng: Random = random.random) -> Ended:
    """The runner's account of an attempt that could not give one itself. Raises StaleAttempt."""
    ends: dict[str, tuple[End, str]] = {
        "exception": ("failed", "ContainerExited"),
        "out_of_memory": ("out_of_memory", "OutOfMemory"),
        "timeout": ("timed_out", "TimedOut"),
        "canceled": ("canceled", "Canceled"),
        "rejected": ("rejected", "Rejected"),
        "lost": ("lost", "Lost"),
    }
    outcome, type_name = ends[body.reason]
    ending = Ending(
        end=outcome,
        error=ErrorBody(type=type_name, message=body.message, reason=body.reason),
        exit_code=body.exit_code,
        peak_memory=body.peak_memory_bytes,
        placed=phases.unbegun(body),
    )
    if body.missing_image is not None:
        ending = replace(ending, end="no_image")
    return end(conn, now, attempt_id, body.token, ending, rng)


def end(
    conn: Connection,
    now: float,
    attempt_id: str,
    token: int,
    ending: Ending,
    rng: Random = random.random,
    queued: list[Row[Any]] | None = None,
) -> Ended:
    """Closes the attempt and moves its run on, in this one transaction. Raises StaleAttempt, NotFound.

    A run that is queued again is added to `queued`, where that is given: who ends several in one transaction
    calls `lanes.enter` with them at its end.

    An end that arrives after the lease ran out, but before the sweep, is taken: nobody else has the run
    yet, and to throw a result away would be to run the task again.
    """
    endings.lock_parent_of_attempt(conn, attempt_id)
    found = conn.execute(_OF_ATTEMPT, {"attempt": attempt_id}).one_or_none()
    if found is None:
        raise NotFound(f"there is no attempt {attempt_id!r}")
    if found.token != token or found.attempt_status not in LIVE or found.current_attempt != attempt_id:
        if found.token == token and ending.digest is not None and found.finish_digest == ending.digest:
            return Ended(found.run_id, found.run_status, repeated=True)
        raise leases.stale(attempt_id)
    resolved = False
    if ending.end == "waiting":
        state = waits.suspend(conn, found.run_id, ending.waits)
        resolved = state == "resolved"
        if state == "unknown":
            # nothing would ever wake it
            ending = replace(ending, end="failed", error=_NO_WAIT)
    options = stored_options(found.options)
    verdict = retries.decide(
        ending.end,
        SoFar(found.memory, found.failures, found.ooms, found.losses, found.cancel_requested_at is not None),
        options.retry.policy(),
        retry_allowed=ending.retry_allowed,
        retry_after=ending.retry_after,
        largest_memory=plans.largest_memory(conn, now) if ending.end == "out_of_memory" else None,
        left=None if found.deadline_at is None else found.deadline_at - now,
        resolved=resolved,
        rng=rng,
    )
    error = closing.error(ending, verdict)
    closed = closing.close(conn, now, attempt_id, token, ending, verdict, error, found.attempt_started_at)
    lines = logs.store(conn, found.run_id, found.number, ending.lines) if ending.lines else closed
    run = closing.move(conn, now, attempt_id, found, ending, verdict, error, lines)
    how = {"start": found.attempt_start, "cause": found.cause}
    if found.attempt_started_at is None:
        how |= {name: value for name, value in ending.placed.items() if name in how}
    facts.attempt_ended(conn, now, run, found.number, closed.status, error, log_bytes=lines.log_bytes, **how)
    entering: list[Row[Any]] = [] if queued is None else queued
    if verdict.status == "queued":
        entering.append(run)
    topics = failures.tell(conn, now, run, options, entering)
    if verdict.status in FINAL:
        topics |= endings.settle(conn, now, run, entering)
    if queued is None:
        lanes.enter(conn, entering)
    entered = bool(entering)
    return Ended(found.run_id, verdict.status, run.due_at, entered=entered, topics=frozenset(topics))


def _end_of(body: Finish) -> End:
    if body.outcome == "failed" and body.error is not None and body.error.reason == "out_of_memory":
        return "out_of_memory"
    return body.outcome
