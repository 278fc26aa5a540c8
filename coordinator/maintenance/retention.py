"""Retention: what is over for longer than its setting says is removed, a little at a time.

Each kind is a function of one transaction's work, so short that a claim waits no longer for it than for another
claim; between two of them passes four times what the last one took. What refers to a run or to a deployment by a
foreign key goes with it: a new table needs no line here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Column, Connection, Table, delete, func, select, tuple_

from coordinator.attempts.pool import STARTS_KEPT
from coordinator.context import Coordinator
from coordinator.deployments.deployments import kept
from coordinator.line.holds import newest
from coordinator.maintenance import unused_blobs
from coordinator.maintenance.duty import Round
from coordinator.runs import bulk
from coordinator.settings import Settings
from coordinator.storage.blobs import Blobs
from coordinator.storage.tables import (
    audit,
    batches,
    build_log,
    deliveries,
    deployments,
    errors,
    event_runs,
    events,
    files,
    history,
    holds,
    lives,
    log_lines,
    metadata,
    projects,
    run_files,
    runs,
    sessions,
    sign_in_links,
    starts,
    ticks,
)
from coordinator.storage.values import decode
from coordinator.wire import FINAL

log = structlog.get_logger()

#: Runs, and rows of other kinds, that one transaction removes.
_RUNS, _ROWS = 20, 500
#: Seconds in which a file that is being sent has to come on.
_UNFINISHED = 86400.0
#: Seconds after its end for which a session stays.
_OVER = 3600.0
#: How long it is known what was done with many runs, at the most.
_BULKS_KEPT = 90 * 86400.0
#: Of what held runs in line: how long it is kept, at the most, and how many spans.
_HOLDS_KEPT, _HOLDS = 90 * 86400.0, 200_000
#: How long hours of history are kept, at the most.
_HOURS = 30 * 86400.0
#: How many times what it took is waited after it: others have the database for the rest of the time.
_PAUSE = 4.0


class Step(NamedTuple):
    """What one transaction did: how much it removed, and where to go on; None where nothing more is old."""

    removed: int
    after: float | None


class Kind(NamedTuple):
    """`remove(conn, before, after, blobs, settings)` removes some of what was over before `before`."""

    name: str
    keep: Callable[[Settings], float]
    remove: Callable[[Connection, float, float, Blobs, Settings], Step]


async def run_round(core: Coordinator, up: float) -> Round:
    """Everything that is old now."""
    for kind in KINDS:
        await _remove(core, kind)
    await unused_blobs.remove(core)
    return Round()


async def _remove(core: Coordinator, kind: Kind) -> None:
    loop = asyncio.get_running_loop()
    total, after = 0, 0.0
    while not core.waking.closed:
        began = loop.time()
        step = await core.database.write(run_once, kind, core.settings, core.blobs, after)
        total += step.removed
        if step.after is None:
            break
        after = step.after
        await asyncio.sleep(_PAUSE * (loop.time() - began))
    if total:
        log.info("removed what was old", kind=kind.name, count=total)


def run_once(
    conn: Connection, now: float, kind: Kind, settings: Settings, blobs: Blobs, after: float = 0.0
) -> Step:
    """One transaction's worth of one kind. `after` is the last step's."""
    keep = kind.keep(settings)
    if not keep:
        return Step(0, None)
    return kind.remove(conn, now - keep, after, blobs, settings)


# ---------------------------------------------------------------- the kinds


def old_runs(conn: Connection, before: float, after: float, blobs: Blobs, settings: Settings) -> Step:
    """Runs that ended, with their attempts, checkpoints and logs; in the dead-letter list or not.

    A child stays as long as its parent has not ended, which may still ask how it did.
    """
    parent = runs.alias()
    asked_for = select(parent.c.id).where(parent.c.id == runs.c.parent, parent.c.finished_at.is_(None)).exists()
    query = select(runs.c.id).where(runs.c.finished_at < before, runs.c.status.in_(FINAL), ~asked_for)
    found = list(
        conn.scalars(query.order_by(runs.c.finished_at).limit(_RUNS).with_for_update(of=runs, skip_locked=True))
    )
    if not found:
        return Step(0, None)
    # a run may have printed more than one transaction should remove
    if _delete_some(conn, log_lines, log_lines.c.run_id.in_(found)) == _ROWS:
        return Step(0, after)
    kept_by_them = select(files.c.id).where(files.c.run_id.in_(found))
    conn.execute(delete(run_files).where(run_files.c.file_id.in_(kept_by_them)))
    _delete_with(conn, runs, found, blobs)
    return Step(len(found), after if len(found) == _RUNS else None)


def old_files(conn: Connection, before: float, after: float, blobs: Blobs, settings: Settings) -> Step:
    """What was uploaded, and no run has; runs' own files go with them."""
    had = select(run_files.c.run_id).where(run_files.c.file_id == files.c.id).exists()
    query = select(files.c.id).where(files.c.run_id.is_(None), files.c.created_at < before, ~had)
    found = list(conn.scalars(query.order_by(files.c.created_at).limit(_ROWS)))
    _remove_files(conn, found, blobs)
    return Step(len(found), after if len(found) == _ROWS else None)


def unfinished_files(conn: Connection, before: float, after: float, blobs: Blobs, settings: Settings) -> Step:
    """What was announced, and has not come: uploads that were given up, artifacts of attempts that died."""
    query = select(files.c.id).where(files.c.finished_at.is_(None), files.c.created_at < before)
    found = [
        file
        for file in conn.scalars(query.order_by(files.c.created_at).limit(_ROWS))
        if not blobs.comes_in(file, before)
    ]
    _remove_files(conn, found, blobs)
    return Step(len(found), None)


def _remove_files(conn: Connection, found: list[str], blobs: Blobs) -> None:
    _delete_where(conn, files, files.c.id.in_(found), blobs)
    for file in found:
        blobs.partial(file).unlink(missing_ok=True)


def old_build_logs(conn: Connection, before: float, after: float, blobs: Blobs, settings: Settings) -> Step:
    """The logs of builds that ended; their deployments may be in use."""
    ended = select(deployments.c.id).where(deployments.c.finished_at < before)
    removed = _delete_some(conn, build_log, build_log.c.deployment_id.in_(ended))
    return Step(removed, after if removed == _ROWS else None)


def old_deployments(conn: Connection, before: float, after: float, blobs: Blobs, settings: Settings) -> Step:
    """Deployments that are not current, that no run refers to, and whose image is not kept either."""
    current = select(projects.c.current_deployment).where(projects.c.current_deployment.is_not(None))
    query = (
        select(deployments.c.id)
        .where(
            deployments.c.finished_at < before,
            deployments.c.status != "building",
            deployments.c.id.not_in(current),
            deployments.c.id.not_in(kept(settings.keep_versions)),
            ~select(runs.c.id).where(runs.c.deployment_id == deployments.c.id).exists(),
        )
        .limit(_RUNS)
        .with_for_update(skip_locked=True)
    )
    found = list(conn.scalars(query))
    _delete_with(conn, deployments, found, blobs)
    return Step(len(found), after if len(found) == _RUNS else None)


def old_events(conn: Connection, before: float, after: float, blobs: Blobs, settings: Settings) -> Step:
    query = select(events.c.key).where(events.c.created_at < before).order_by(events.c.created_at).limit(_ROWS)
    found = list(conn.scalars(query))
    conn.execute(delete(event_runs).where(event_runs.c.event.in_(found)))
    conn.execute(delete(events).where(events.c.key.in_(found)))
    return Step(len(found), after if len(found) == _ROWS else None)


def old_deliveries(conn: Connection, before: float, after: float, blobs: Blobs, settings: Settings) -> Step:
    query = select(deliveries.c.id).where(deliveries.c.received_at < before).order_by(deliveries.c.received_at)
    found = list(conn.scalars(query.limit(_ROWS)))
    _delete_with(conn, deliveries, found, blobs)
    return Step(len(found), after if len(found) == _ROWS else None)


def old_ticks(conn: Connection, before: float, after: float, blobs: Blobs, settings: Settings) -> Step:
    """Ticks that have no run; the others go with theirs. A schedule knows by itself which was its last."""
    removed = _delete_some(conn, ticks, ticks.c.run_id.is_(None) & (ticks.c.fired_at < before))
    return Step(removed, after if removed == _ROWS else None)


def old_audit(conn: Connection, before: float, after: float, blobs: Blobs, settings: Settings) -> Step:
    # ids rise with time: the oldest are the first
    rows = conn.execute(select(audit.c.id, audit.c.at).order_by(audit.c.id).limit(_ROWS)).all()
    found = [row.id for row in rows if row.at < before]
    conn.execute(delete(audit).where(audit.c.id.in_(found)))
    return Step(len(found), after if len(found) == _ROWS else None)


def old_lives(conn: Connection, before: float, after: float, blobs: Blobs, settings: Settings) -> Step:
    """Containers that have left; a runner's newest ones stay within a number as well."""
    removed = _delete_some(conn, lives, lives.c.left_at < before)
    return Step(removed, after if removed == _ROWS else None)


def old_starts(conn: Connection, before: float, after: float, blobs: Blobs, settings: Settings) -> Step:
    removed = _delete_some(conn, starts, starts.c.at < before)
    return Step(removed, after if removed == _ROWS else None)


def old_sessions(conn: Connection, before: float, after: float, blobs: Blobs, settings: Settings) -> Step:
    """Sessions of the dashboard that are over, and the links that begin one."""
    removed = [_delete_some(conn, table, table.c.expires_at < before) for table in (sessions, sign_in_links)]
    return Step(sum(removed), after if _ROWS in removed else None)


def old_holds(conn: Connection, before: float, after: float, blobs: Blobs, settings: Settings) -> Step:
    """What held runs in line; the newest ones stay within a number as well, however often it changes."""
    beyond = holds.c.id <= newest(conn) - _HOLDS
    removed = _delete_some(conn, holds, (holds.c.until < before) | beyond)
    return Step(removed, after if removed == _ROWS else None)


def old_hours(conn: Connection, before: float, after: float, blobs: Blobs, settings: Settings) -> Step:
    """Hours of history; the days they were of are kept for longer."""
    return _old_history(conn, "hour", before, after)


def old_days(conn: Connection, before: float, after: float, blobs: Blobs, settings: Settings) -> Step:
    return _old_history(conn, "day", before, after)


def _old_history(conn: Connection, step: str, before: float, after: float) -> Step:
    removed = _delete_some(conn, history, (history.c.step == step) & (history.c.at < before))
    return Step(removed, after if removed == _ROWS else None)


def old_errors(conn: Connection, before: float, after: float, blobs: Blobs, settings: Settings) -> Step:
    """Groups of errors that were not seen for so long, whatever was said of them."""
    removed = _delete_some(conn, errors, errors.c.last_seen < before)
    return Step(removed, after if removed == _ROWS else None)


def old_bulks(conn: Connection, before: float, after: float, blobs: Blobs, settings: Settings) -> Step:
    """What was done with many runs, with what became of them."""
    removed = bulk.forget(conn, before, _RUNS)
    return Step(removed, after if removed == _RUNS else None)


def old_batches(conn: Connection, before: float, after: float, blobs: Blobs, settings: Settings) -> Step:
    """The idempotency keys of batches none of whose runs is there any more."""
    query = select(batches).where(batches.c.created_at < before, batches.c.created_at > after)
    found = conn.execute(query.order_by(batches.c.created_at).limit(_RUNS)).all()
    removed = 0
    for row in found:
        left = conn.scalar(select(func.count()).select_from(runs).where(runs.c.id.in_(decode(row.runs))))
        if not left:
            this = (batches.c.project == row.project) & (batches.c.task == row.task)
            conn.execute(delete(batches).where(this, batches.c.idempotency_key == row.idempotency_key))
            removed += 1
    # those that stay are passed by
    return Step(removed, found[-1].created_at if len(found) == _RUNS else None)


KINDS = (
    Kind("runs", lambda settings: settings.retention_runs, old_runs),
    Kind("ticks", lambda settings: settings.retention_runs, old_ticks),
    Kind("batches", lambda settings: settings.retention_runs, old_batches),
    Kind("bulks", lambda settings: min(_BULKS_KEPT, settings.retention_runs or _BULKS_KEPT), old_bulks),
    Kind("events", lambda settings: settings.retention_events, old_events),
    Kind("deliveries", lambda settings: settings.retention_events, old_deliveries),
    Kind("files", lambda settings: settings.retention_files, old_files),
    Kind("files that never came", lambda settings: _UNFINISHED, unfinished_files),
    Kind("containers that have left", lambda settings: settings.retention_pool, old_lives),
    Kind("how runs have begun", lambda settings: STARTS_KEPT, old_starts),
    Kind("sessions", lambda settings: _OVER, old_sessions),
    Kind("what held runs", lambda settings: min(_HOLDS_KEPT, settings.retention_runs or _HOLDS_KEPT), old_holds),
    Kind("hours of history", lambda settings: min(_HOURS, settings.retention_history or _HOURS), old_hours),
    Kind("days of history", lambda settings: settings.retention_history, old_days),
    Kind("groups of errors", lambda settings: settings.retention_history, old_errors),
    Kind("audit", lambda settings: settings.retention_audit, old_audit),
    Kind("build logs", lambda settings: settings.retention_builds, old_build_logs),
    # last: the runs that kept a deployment may just have gone
    Kind("deployments", lambda settings: settings.retention_builds, old_deployments),
)


# ---------------------------------------------------------------- removing


def _delete_some(conn: Connection, table: Table, where: Any) -> int:
    """At most _ROWS rows of `table`; how many."""
    key = list(table.primary_key.columns)
    chosen = select(*key).where(where).limit(_ROWS)
    return conn.execute(delete(table).where(tuple_(*key).in_(chosen))).rowcount


def _delete_with(conn: Connection, table: Table, keys: list[str], blobs: Blobs) -> None:
    """Rows by their key, after all that refers to them."""
    if not keys:
        return
    (key,) = table.primary_key.columns
    for other, column in _referring(key):
        _delete_where(conn, other, column.in_(keys), blobs)
    _delete_where(conn, table, key.in_(keys), blobs)


def _delete_where(conn: Connection, table: Table, where: Any, blobs: Blobs) -> None:
    named = [column for column in table.columns if column in unused_blobs.COLUMNS]
    for column in named:
        # a replay may be about to refer to it once more: its time begins anew
        blobs.touch(conn.scalars(select(column).where(where, column.is_not(None))))
    conn.execute(delete(table).where(where))


def _referring(key: Column[Any]) -> Iterable[tuple[Table, Column[Any]]]:
    """Tables with a foreign key to `key`, those first that refer to others of them."""
    for table in reversed(metadata.sorted_tables):
        if table is runs:  # a run is never removed for the sake of what it refers to
            continue
        for column in table.columns:
            if any(foreign.column is key for foreign in column.foreign_keys):
                yield table, column
