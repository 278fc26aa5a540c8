"""What the trace of one run is made of, read in a handful of statements, whatever the run has been through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    Table,
    cast,
    func,
    literal,
    null,
    select,
    union_all,
)

from coordinator.foundation.limits import (
    MAX_COUNTED,
    TRACE_ATTEMPTS,
    TRACE_CHECKPOINTS,
    TRACE_CHILDREN,
    TRACE_LEDGER,
    TRACE_WAITS,
)
from coordinator.line import holds
from coordinator.runs import runs as looked_up
from coordinator.runs.trace import History
from coordinator.storage.tables import attempts, checkpoints, runs, waits
from coordinator.wire import LeftOut

#: Seconds in line of which it is not asked what they went for.
_MOMENT = 0.5
#: Without errors, and whatever else is long.
_ATTEMPT = [
    attempts.c[name]
    for name in (
        *("id", "number", "status", "runner", "start", "cause", "evicted_by_project", "evicted_by_task"),
        *("container", "container_run", "exit_code", "claimed_at", "started_at", "finished_at"),
        *("memory", "queued_ms", "placed_ms", "starting_ms", "importing_ms", "handed_ms", "ran_ms", "reported_ms"),
    )
]
#: What is read of each, by the table. They come in one answer, so each has the columns of the others too, as null.
_STEPS: dict[Table, tuple[str, ...]] = {
    checkpoints: ("run_id", "key", "position", "size", "attempt_id", "attempt", "begun_at", "created_at"),
    waits: (
        *("run_id", "key", "kind", "name", "position", "status", "due_at", "attempt"),
        *("created_at", "resolved_at"),
    ),
    runs: ("id", "task", "status", "parent_key", "detached", "created_at", "started_at", "finished_at"),
}
_TYPES = {name: table.c[name].type for table, names in _STEPS.items() for name in names}


def read(conn: Connection, now: float, run_id: str) -> History:
    """The latest of everything there is of a run. Raises NotFound."""
    run = looked_up.get(conn, now, run_id)
    if not run.attempts:
        return History(run, [], [], [], [], LeftOut(), _holds(conn, now, run, []))  # it has done nothing yet
    tried = _latest(conn, select(*_ATTEMPT).where(attempts.c.run_id == run_id), attempts.c.number, TRACE_LEDGER)
    shown = [row.id for row in tried[-TRACE_ATTEMPTS:]]
    own = checkpoints.c.run_id == run_id
    # (those that a replay has taken over are none of its own time)
    # a trigger is over as soon as it is stored: the run that it made is shown
    waited = (
        (waits.c.run_id == run_id)
        & (waits.c.created_at >= run.created_at)
        & waits.c.kind.not_in(("trigger", "batch_trigger"))
    )
    mine = own & checkpoints.c.attempt_id.in_(shown)
    steps = union_all(
        _step(checkpoints, mine, checkpoints.c.position, TRACE_CHECKPOINTS),
        _step(waits, waited, waits.c.position, TRACE_WAITS),
        _step(runs, runs.c.parent == run_id, runs.c.id, TRACE_CHILDREN),
    )
    found: dict[str, list[Any]] = {table.name: [] for table in _STEPS}
    for row in conn.execute(steps):
        found[row.what].append(row)
    made, asked = (sorted(found[table.name], key=lambda row: row.position) for table in (checkpoints, waits))
    below = sorted(found[runs.name], key=lambda row: row.id)
    full = (
        len(tried) > TRACE_ATTEMPTS
        or len(made) == TRACE_CHECKPOINTS
        or len(asked) == TRACE_WAITS
        or len(below) == TRACE_CHILDREN
    )
    left_out = None
    if full:
        all_own = select(attempts.c.id).where(attempts.c.run_id == run_id)
        counted = conn.execute(
            select(
                _count(select(attempts.c.id).where(attempts.c.run_id == run_id)),
                _count(select(checkpoints.c.key).where(own, checkpoints.c.attempt_id.in_(all_own))),
                _count(select(waits.c.key).where(waited)),
                _count(select(runs.c.id).where(runs.c.parent == run_id)),
            )
        ).one()
        there = zip(counted, (shown, made, asked, below), strict=True)
        names = ("attempts", "checkpoints", "waits", "children")
        left_out = LeftOut(
            **{name: max(0, int(count) - len(rows)) for name, (count, rows) in zip(names, there, strict=True)}
        )
    return History(run, tried, made, asked, below, left_out, _holds(conn, now, run, tried))


def _holds(conn: Connection, now: float, run: Any, tried: Sequence[Any]) -> Sequence[Any]:
    """What has held it in line, where it has stood there so long that somebody may have looked."""
    waited = sum(attempt.queued_ms or 0.0 for attempt in tried) / 1000
    until = now if run.finished_at is None else run.finished_at
    if run.queued_at is not None and (not tried or run.queued_at > tried[-1].claimed_at):
        waited += until - run.queued_at
    if waited < _MOMENT:
        return ()
    memories = [run.memory, *(attempt.memory for attempt in tried)]
    return holds.of(conn, holds.scopes_of(run, memories), run.created_at, until)


def _latest(conn: Connection, query: Select[Any], by: Any, most: int) -> list[Any]:
    return list(reversed(conn.execute(query.order_by(by.desc()).limit(most)).all()))


def _step(table: Table, where: ColumnElement[bool], by: ColumnElement[Any], most: int) -> Select[Any]:
    """The latest ones of a table, in a shape that all of _STEPS have; `what`: the table's name."""
    columns = [
        table.c[name] if name in _STEPS[table] else cast(null(), kind).label(name) for name, kind in _TYPES.items()
    ]
    latest = select(literal(table.name).label("what"), *columns).where(where).order_by(by.desc()).limit(most)
    return select(latest.subquery())


def _count(query: Select[Any]) -> Any:
    some: FromClause = query.limit(MAX_COUNTED).subquery()
    return select(func.count()).select_from(some).scalar_subquery()
