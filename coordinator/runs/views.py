"""Rows as the public API shows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Row

from coordinator import wire
from coordinator.foundation import sight
from coordinator.foundation.times import iso as iso
from coordinator.line.queues import Limits
from coordinator.storage.tables import LOG_LEVELS
from coordinator.storage.values import Stored, Values, decode

AnyRow = Row[Any]


def error(text: str | None) -> wire.ErrorBody | None:
    return None if text is None else wire.ErrorBody.model_validate_json(text)


def error_shown(row: AnyRow) -> wire.ErrorShown | None:
    """Of a run or an attempt."""
    if row.error is None:
        return None
    shown = wire.ErrorShown.model_validate_json(row.error)
    shown.fingerprint = row.error_fingerprint
    return shown


async def run(row: AnyRow, values: Values) -> wire.Run:
    """The whole run, with its payload and result wherever they are kept."""
    shown = run_summary(row)
    shown.payload = await values.get(Stored(row.payload, row.payload_blob))
    shown.result = await values.get(Stored(row.result, row.result_blob))
    return shown


def run_summary(row: AnyRow) -> wire.Run:
    """The run without its payload and result."""
    return wire.Run(
        id=row.id,
        task=row.task,
        project=row.project,
        version=row.version,
        status=row.status,
        attempt=row.attempts,
        attempts=row.attempts,
        error=error_shown(row),
        tags=decode(row.tags),
        priority=row.priority,
        concurrency_key=row.concurrency_key,
        idempotency_key=row.idempotency_key,
        created_at=iso(row.created_at),
        started_at=iso(row.started_at),
        finished_at=iso(row.finished_at),
        progress=decode(row.progress),
        metadata=decode(row.metadata) or {},
        timings=timings(row),
        usage=wire.Usage(peak_memory_bytes=row.peak_memory, memory_limit_bytes=row.memory_limit),
        logs=log_counts(row),
        trace_id=row.trace_id,
        origin=wire.Origin(kind=row.origin, id=row.origin_id),
        deadline_at=iso(row.deadline_at),
        dead_letter=row.dead_at is not None,
        parent=row.parent,
        root=row.root,
    )


def log_counts(row: AnyRow) -> wire.LogCounts:
    """Of an attempt, or of a run, with those of the attempt that lives where the row has them."""
    values = row._mapping
    return wire.LogCounts(
        **{level: values[f"log_{level}"] + values.get(f"live_log_{level}", 0) for level in LOG_LEVELS}
    )


def timings(row: AnyRow) -> wire.Timings:
    """Of a run; with phases where the row has those of its latest attempt (`runs.get`)."""
    shown = wire.Timings(queued_ms=row.queued_ms, start_ms=row.start_ms, run_ms=row.run_ms, start=row.start)
    if "attempt_cause" in row._fields:
        values = row._mapping
        shown.cause = row.attempt_cause
        shown.evicted_by = whose(row.attempt_evicted_by_project, row.attempt_evicted_by_task)
        shown.phases = phases(lambda name: values[f"attempt_{name}"])
    return shown


def phases(of: Callable[[str], float | None]) -> wire.Phases:
    """`of`: the column of an attempt's row."""
    return wire.Phases(
        queued_ms=of("queued_ms"),
        placed_ms=of("placed_ms"),
        started_ms=of("starting_ms"),
        imported_ms=of("importing_ms"),
        handed_over_ms=of("handed_ms"),
        ran_ms=of("ran_ms"),
        reported_ms=of("reported_ms"),
    )


def whose(project: str | None, task: str | None) -> wire.Whose | None:
    """A task, where the caller may hear of its project."""
    if project is None or task is None or not sight.sees(project):
        return None
    return wire.Whose(project=project, task=task)


async def checkpoint(row: AnyRow, values: Values) -> wire.Checkpoint:
    """A checkpoint, or a wait: its row has a kind."""
    shown = wire.Checkpoint(
        key=row.key,
        value=await values.get(Stored(row.value, row.value_blob)),
        attempt=row.attempt,
        created_at=iso(row.created_at),
        size_bytes=row.size,
    )
    if "kind" not in row._fields:
        shown.begun_at = iso(row.begun_at)
    else:
        shown.kind, shown.state, shown.name = row.kind, row.status, row.name
        shown.until = iso(row.due_at) if row.status == "pending" else None
        shown.runs = decode(row.runs)
    return shown


def attempt(row: AnyRow) -> wire.Attempt:
    return wire.Attempt(
        id=row.id,
        number=row.number,
        runner=row.runner,
        status=row.status,
        start=row.start,
        cause=row.cause,
        evicted_by=whose(row.evicted_by_project, row.evicted_by_task),
        phases=phases(lambda name: row._mapping[name]),
        container=row.container,
        container_run=row.container_run,
        claimed_at=iso(row.claimed_at),
        started_at=iso(row.started_at),
        finished_at=iso(row.finished_at),
        exit_code=row.exit_code,
        error=error_shown(row),
        usage=wire.AttemptUsage(
            peak_memory_bytes=row.peak_memory,
            memory_limit_bytes=row.memory,
            curve=curve(row.curve),
            held=held(row.curve),
        ),
        logs=log_counts(row),
        egress=[wire.EgressHost.model_validate(host) for host in (decode(row.egress) or {"hosts": []})["hosts"]],
    )


def curve(text: str | None) -> wire.MemoryCurve | None:
    """In bytes, of what is stored in units of them."""
    if text is None:
        return None
    stored = decode(text)
    points = [wire.CURVE_UNIT * point for point in stored["points"]]
    return wire.MemoryCurve(interval_ms=stored["interval_ms"], points=points)


def held(text: str | None) -> wire.MemoryHeld | None:
    """Of what is stored with the curve."""
    near = None if text is None else decode(text).get("near")
    if near is None:
        return None
    return wire.MemoryHeld(
        at_ms=near["at_ms"],
        memory_bytes=near["memory"],
        scratch_bytes=near["scratch"],
        processes=[
            wire.MemoryProcess(pid=one["pid"], name=one["name"], memory_bytes=one["memory"])
            for one in near["processes"]
        ],
        killed=near["killed"],
    )


def queue(limits: Limits, running: int, queued: int) -> wire.QueueState:
    return wire.QueueState(
        project=limits.project,
        name=limits.name,
        concurrency=limits.concurrency,
        declared_concurrency=limits.declared,
        overridden=limits.overridden,
        per_key=limits.per_key,
        rate=limits.rate,
        rate_excess=limits.rate_excess,
        on_full=limits.on_full,
        paused=limits.paused,
        running=running,
        queued=queued,
    )


def log_line(row: AnyRow) -> wire.LogLine:
    return wire.LogLine(
        at=iso(row.at),
        level=row.level,
        stream=row.stream,
        logger=row.logger,
        message=row.message,
        attempt=row.attempt,
        seq=row.seq,
        partial=row.partial,
        replaces=row.replaces is not None,
    )


def line_of_run(row: AnyRow) -> wire.LineOfRun:
    return wire.LineOfRun(run=row.run_id, **dict(log_line(row)))


def deployment(row: AnyRow, tasks: list[dict[str, Any]]) -> wire.Deployment:
    return wire.Deployment(
        id=row.id,
        project=row.project,
        version=row.version,
        status=row.status,
        current=bool(row.current),
        image=row.image,
        tasks=tasks,
        error=decode(row.error),
        findings=decode(row.findings) or [],
        image_removed_at=iso(row.image_removed_at),
        rebuild_due_at=iso(row.rebuild_due_at),
        rebuild_error=decode(row.rebuild_error),
        created_at=iso(row.created_at),
        finished_at=iso(row.finished_at),
    )


def event(row: AnyRow, runs: list[AnyRow]) -> wire.Event:
    return wire.Event(
        id=row.id,
        name=row.name,
        project=row.project or None,
        payload=decode(row.payload),
        created_at=iso(row.created_at),
        runs=[wire.EventRun(id=run.run_id, project=run.project, task=run.task) for run in runs if run.run_id],
        problems=[
            wire.EventProblem(project=run.project, task=run.task, message=run.problem)
            for run in runs
            if run.problem is not None
        ],
    )


def delivery(row: AnyRow, body: bytes | None = None) -> wire.Delivery:
    """With its headers and body where the body is given."""
    shown = wire.Delivery(
        id=row.id,
        project=row.project,
        webhook=row.path,
        task=row.task,
        delivery_id=row.sender_id,
        scheme=row.scheme,
        status=row.status,
        problem=row.problem,
        run=row.run_id,
        replays=row.replays,
        size_bytes=row.size,
        received_at=iso(row.received_at),
    )
    if body is not None:
        shown.headers, shown.body = decode(row.headers), body.decode("utf-8", "replace")
        shown.query = decode(row.query) or {}
    return shown


def key(row: AnyRow) -> wire.Key:
    return wire.Key(
        id=row.id,
        name=row.name,
        role=row.role,
        project=row.project,
        runner=row.runner,
        created_at=iso(row.created_at),
        revoked_at=iso(row.revoked_at),
    )


def secret(row: AnyRow) -> wire.Secret:
    return wire.Secret(
        name=row.name,
        project=row.project or None,
        created_at=iso(row.created_at),
        updated_at=iso(row.updated_at),
    )


def schedule(row: AnyRow) -> wire.Schedule:
    last = None
    if row.last_at is not None:
        last = wire.LastTick(
            at=iso(row.last_at), run=row.last_run, status=row.last_status, problem=row.last_problem
        )
    return wire.Schedule(
        id=row.id,
        project=row.project,
        task=row.task,
        cron=row.cron,
        timezone=row.timezone,
        catchup=row.catchup,
        paused=row.paused,
        next_at=iso(row.next_at),
        last=last,
        name=row.name or None,
        payload=decode(row.payload),
    )
