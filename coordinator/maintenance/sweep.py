"""The sweep: what time alone changes. Leases run out, delayed runs come due, runs expire unclaimed.

Each function is a transaction's worth of work, bounded, and safe to run in several coordinators at once:
every change is a guarded UPDATE.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Connection, Row, Select, func, literal_column, select, update

from coordinator.attempts import attempts as lives
from coordinator.attempts import runners
from coordinator.attempts.closing import Ending
from coordinator.deployments import builds
from coordinator.foundation.errors import CoordinatorError, StaleAttempt
from coordinator.foundation.limits import LEASE
from coordinator.foundation.states import RUN, sources
from coordinator.history import facts, fingerprints
from coordinator.history.fingerprints import Known
from coordinator.line import lanes, queues
from coordinator.line.queues import Limits
from coordinator.runs import admission, cancelling, endings, failures, targets
from coordinator.signals import waking
from coordinator.storage.tables import IS_DELAYED, IS_LIVE, attempts, runs
from coordinator.storage.tables import lanes as lane_rows
from coordinator.tasks.retries import Random
from coordinator.waits import waits
from coordinator.wire import ErrorBody

log = structlog.get_logger()

_BATCH = 500

#: Of runs that run, the runner sees to it. Not a list of the others: SQLite would read all of those for it.
_NOT_RUNNING = runs.c.status != literal_column("'running'")
_OVERDUE = fingerprints.know(
    ErrorBody(type="TimedOut", message="its total_timeout was over before it came to an end", reason="timeout")
)
_NEXT_DEADLINE = select(func.min(runs.c.deadline_at)).where(runs.c.deadline_at.is_not(None), _NOT_RUNNING)


class Swept(NamedTuple):
    """Topics to wake, and in how many seconds the next thing is due (0: there is more now)."""

    topics: set[str]
    next_due: float | None


def run_once(conn: Connection, now: float, rng: Random = random.random, *, with_leases: bool = True) -> Swept:
    """All duties once."""
    topics: set[str] = set()
    queued: list[Row[Any]] = []
    full = False
    duties: list[Callable[[], set[str]]] = [
        lambda: overdue(conn, now, queued),
        lambda: due(conn, now, queued),
        lambda: expired(conn, now, queued),
        lambda: waits.due(conn, now, queued),
    ]
    if with_leases:
        duties += [lambda: leases(conn, now, rng, queued), lambda: lapsed_builds(conn, now)]
    for duty in duties:
        changed = duty()
        topics |= changed
        full = full or len(changed) >= _BATCH
    # lanes are locked last
    lanes.enter(conn, queued)
    topics |= lanes_due(conn, now)
    next_at = next_due(conn)
    return Swept(topics, 0.0 if full else None if next_at is None else max(0.0, next_at - now))


def due(conn: Connection, now: float, queued: list[Row[Any]]) -> set[str]:
    """Delayed runs whose time has come join the line, and are added to `queued`; a full queue may not let them."""
    waiting = sources(RUN, by="sweep.due")
    ready = list(
        conn.execute(
            select(runs.c.id, runs.c.project, runs.c.queue)
            .where(IS_DELAYED, runs.c.due_at <= now)
            .order_by(runs.c.due_at)
            .limit(_BATCH)
        )
    )
    if not ready:
        return set()
    limits = _full_matters(conn, {(row.project, row.queue) for row in ready})
    chosen = _locked(select(runs.c.id).where(IS_DELAYED, runs.c.id.in_([row.id for row in ready])))
    found = conn.execute(
        update(runs)
        .where(runs.c.id.in_(chosen), runs.c.status.in_(waiting))
        .values(status="queued", due_at=None, debounce_key=None)
        .returning(*runs.c)
    ).all()
    topics = {waking.run(run.id) for run in found} | ({waking.CLAIMS} if found else set())
    for run in sorted(found, key=lambda row: row.id):
        # one that is tried again has been let in before
        of_queue = limits.get((run.project, run.queue)) if run.attempts == 0 else None
        skipped = None if of_queue is None else admission.skips(conn, of_queue, run.concurrency_key, run.id)
        if skipped is not None:
            topics |= cancelling.cancel(conn, now, run.id, skipped, queued).topics
            continue
        if of_queue is not None:
            topics |= admission.make_room(conn, now, of_queue, run, queued)
        queued.append(run)
    return topics


def _full_matters(conn: Connection, named: set[tuple[str, str]]) -> dict[tuple[str, str], Limits]:
    """Those of the queues that do not just let runs stand in line when they are full, locked."""
    locked = {}
    for project, name in sorted(named):
        limits = queues.get(conn, project, name)
        if limits is not None and limits.on_full != "queue":
            limits = queues.lock(conn, project, name)
        if limits is not None and limits.on_full != "queue":
            locked[project, name] = limits
    return locked


def expired(conn: Connection, now: float, queued: list[Row[Any]]) -> set[str]:
    """Runs that nobody claimed within their ttl end; parents that go on for it are added to `queued`."""
    # only runs that stand in line have an expiry: a claim, a cancel and the expiry itself take it away
    late = select(runs.c.id).where(runs.c.expires_at <= now).order_by(runs.c.expires_at).limit(_BATCH)
    topics: set[str] = set()
    for run in _end(conn, now, late, "sweep.expired", status="expired"):
        topics |= {waking.run(run.id)} | endings.settle(conn, now, run, queued)
    return topics


def _end(
    conn: Connection, now: float, late: Select[tuple[str]], by: str, error: Known | None = None, **values: Any
) -> list[Row[Any]]:
    """Ends the runs of a query, where `by` may; the rows. Of those with a parent, the parent is locked first."""
    if error is not None:
        values |= error.columns()

    def end(chosen: Select[tuple[str]]) -> list[Row[Any]]:
        ended = (
            update(runs)
            .where(runs.c.id.in_(chosen.with_for_update(skip_locked=True)), runs.c.status.in_(sources(RUN, by=by)))
            .values(finished_at=now, due_at=None, expires_at=None, deadline_at=None, **values)
            .returning(*runs.c)
        )
        return list(conn.execute(ended))

    found = end(late.where(runs.c.parent.is_(None)))
    for child in [row.id for row in conn.execute(late.where(runs.c.parent.is_not(None)))]:
        endings.lock_parent(conn, child)
        found += end(select(runs.c.id).where(runs.c.id == child))
    facts.runs_ended(conn, now, found, error)
    return found


def overdue(conn: Connection, now: float, queued: list[Row[Any]]) -> set[str]:
    """Runs whose whole time is over while nothing of them runs end; those that run are ended by their runner."""
    late = (
        select(runs.c.id).where(runs.c.deadline_at <= now, _NOT_RUNNING).order_by(runs.c.deadline_at).limit(_BATCH)
    )
    topics: set[str] = set()
    for run in _end(conn, now, late, "sweep.overdue", _OVERDUE, status="timed_out", dead_at=now):
        topics |= {waking.run(run.id)} | endings.settle(conn, now, run, queued)
        topics |= failures.tell(conn, now, run, targets.options(conn, run), queued)
    return topics


def leases(conn: Connection, now: float, rng: Random, queued: list[Row[Any]]) -> set[str]:
    """Attempts whose runner has not been heard within their lease are lost."""
    lapsed = conn.execute(
        select(attempts.c.id, attempts.c.token, attempts.c.runner)
        .where(IS_LIVE, attempts.c.lease_until <= now)
        .order_by(attempts.c.lease_until)
        .limit(_BATCH)
    ).all()
    topics: set[str] = set()
    for row in lapsed:
        message = f"the runner {row.runner} was not heard for {LEASE:g} s"
        topics |= end_as_lost(conn, now, row.id, row.token, message, rng, queued)
    return topics


def unnamed(conn: Connection, now: float, runner: str, named: set[str]) -> bool:
    """Whether there is anything for `end_unnamed` to do."""
    return bool(runners.unnamed(conn, now, runner, named) or builds.unnamed(conn, now, runner, named))


def end_unnamed(
    conn: Connection, now: float, runner: str, named: set[str], rng: Random = random.random
) -> set[str]:
    """What a heartbeat should have named and did not never reached its runner: it is lost at once."""
    topics: set[str] = set()
    queued: list[Row[Any]] = []
    for row in runners.unnamed(conn, now, runner, named):
        topics |= end_as_lost(conn, now, row.id, row.token, f"the runner {runner} does not have it", rng, queued)
    lanes.enter(conn, queued)
    for row in builds.unnamed(conn, now, runner, named):
        if builds.lost(conn, now, row.id, row.build_token) is not None:
            topics |= {waking.build(row.id), waking.BUILDS}
    return topics


def end_as_lost(
    conn: Connection, now: float, attempt: str, token: int, message: str, rng: Random, queued: list[Row[Any]]
) -> set[str]:
    """The topics to wake; none where the attempt came to another end meanwhile. As `attempts.end` for `queued`."""
    ending = Ending("lost", ErrorBody(type="Lost", message=message, reason="lost"))
    try:
        with conn.begin_nested():
            ended = lives.end(conn, now, attempt, token, ending, rng, queued)
    except StaleAttempt:
        return set()
    except (ValueError, CoordinatorError) as error:
        # a row that can't be read is left as it is: the leases of all others have to run out with this transaction
        log.error("an attempt can't be ended", attempt=attempt, problem=repr(error))
        return set()
    return topics_of(ended)


def topics_of(ended: lives.Ended) -> set[str]:
    """Whom the end of an attempt concerns."""
    own = {waking.run(ended.run)} | ({waking.DUE} if ended.due_at is not None else set())
    # memory has become free whatever became of the run
    return own | {waking.CLAIMS if ended.entered else waking.FREED} | ended.topics


def lapsed_builds(conn: Connection, now: float) -> set[str]:
    """Builds whose runner has not been heard within their lease wait for another runner, or fail."""
    topics: set[str] = set()
    for row in builds.lapsed(conn, now):
        if builds.lost(conn, now, row.id, row.build_token) is not None:
            topics |= {waking.build(row.id), waking.BUILDS}
    return topics


def lanes_due(conn: Connection, now: float) -> set[str]:
    """Lanes whose rate lets something start again are opened; those empty for long are forgotten."""
    opened = lanes.open_due(conn, now)
    lanes.forget_idle(conn, now)
    return {waking.CLAIMS} if opened else set()


def next_due(conn: Connection) -> float | None:
    """When the next delayed run is due, the next run expires, the next wait is over, or the next lane opens."""
    times = [
        waits.next_due(conn),
        conn.scalar(select(func.min(lane_rows.c.opens_at)).where(lane_rows.c.opens_at.is_not(None))),
        conn.scalar(select(func.min(runs.c.due_at)).where(IS_DELAYED)),
        conn.scalar(select(func.min(runs.c.expires_at)).where(runs.c.expires_at.is_not(None))),
        conn.scalar(_NEXT_DEADLINE),
    ]
    return min((time for time in times if time is not None), default=None)


def _locked(query: Select[tuple[str]]) -> Select[tuple[str]]:
    return query.with_for_update(skip_locked=True)
