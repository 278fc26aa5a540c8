"""Schedules: the cron lines of current deployments, and the ticks that have become runs.

(Those made over the API are in coordinator/sources/schedule_edits.py, and fire as these do.)
A schedule is known by its project and task, and its row stays: a task that comes back after a rollback has its
schedule with its id, its ticks, and still paused where it was. `next_at` is null while the schedule is paused or
removed; ticks of that time are not made up.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, func, insert, select, update

from coordinator.foundation import ids
from coordinator.foundation.errors import NotFound, Refused
from coordinator.foundation.limits import TICK_GRACE, TICKS_AT_ONCE
from coordinator.runs import targets
from coordinator.runs.plans import Origin, Plan, plan
from coordinator.runs.triggers import Made, create
from coordinator.storage import dialect
from coordinator.storage.tables import runs, schedules, tasks, ticks
from coordinator.storage.values import Stored, decode
from coordinator.tasks import cron
from coordinator.tasks.index import ScheduleOptions, stored_options
from coordinator.tasks.payloads import Payloads
from coordinator.tasks.ticks import arguments, local
from coordinator.wire import TriggerRequest

_LAST = (ticks.c.schedule_id == schedules.c.id) & (ticks.c.at == schedules.c.last_at)
_SHOWN = (
    select(
        schedules,
        ticks.c.run_id.label("last_run"),
        ticks.c.problem.label("last_problem"),
        runs.c.status.label("last_status"),
    )
    .outerjoin_from(schedules, ticks, _LAST)
    .outerjoin(runs, runs.c.id == ticks.c.run_id)
)


class Tick(NamedTuple):
    """A tick that was fired: its run, or why there is none."""

    schedule: str
    at: float
    run: str | None
    problem: str | None
    #: Whom the run concerns.
    topics: frozenset[str] = frozenset()


def declare(conn: Connection, now: float, project: str, deployment: str) -> None:
    """Makes the project's schedules those of `deployment`, which has just become the current one.

    A line that is as it was keeps its next tick, also one that is due; another begins now. Raises BadSchedule.
    """
    known = {
        row.task: row
        for row in conn.execute(
            select(schedules)
            .where(schedules.c.project == project, schedules.c.name == "")
            .order_by(schedules.c.id)
            .with_for_update()
        )
    }
    query = select(tasks.c.task, tasks.c.options).where(tasks.c.deployment_id == deployment)
    found = conn.execute(query.order_by(tasks.c.task))
    wanted = {task: stored_options(options).schedule for task, options in found}
    for task, line in wanted.items():
        if line is not None:
            _declare(conn, now, project, task, line, known.get(task))
    gone = [row.id for task, row in known.items() if row.removed_at is None and wanted.get(task) is None]
    if gone:
        conn.execute(update(schedules).where(schedules.c.id.in_(gone)).values(removed_at=now, next_at=None))


def _declare(
    conn: Connection, now: float, project: str, task: str, line: ScheduleOptions, known: Row[Any] | None
) -> None:
    try:
        cron.check(line.cron, line.timezone)
    except cron.BadSchedule as error:
        raise cron.BadSchedule(f"{task}.schedule.{error.fields[0].path}", error.fields[0].message) from None
    values: dict[str, Any] = line.model_dump()
    if known is None:
        first = cron.next_after(line.cron, line.timezone, now)
        values |= {"id": ids.schedule(), "project": project, "task": task, "paused": False, "next_at": first}
        conn.execute(insert(schedules).values(created_at=now, **values))
        return
    same = (known.cron, known.timezone) == (line.cron, line.timezone) and known.removed_at is None
    if not same and not known.paused:
        values["next_at"] = following(line.cron, line.timezone, now, known.last_at)
    conn.execute(update(schedules).where(schedules.c.id == known.id).values(removed_at=None, **values))


def following(line: str, timezone: str, now: float, last: float | None) -> float:
    """The next tick. Never one that was fired, whatever the clock says."""
    return cron.next_after(line, timezone, now if last is None else max(now, last))


# ---------------------------------------------------------------- firing


def fire_next(conn: Connection, now: float, payloads: Payloads) -> list[Tick] | None:
    """Fires what is due of one schedule; None where nothing is due of any.

    One schedule to a transaction: a large one holds no other back, and replicas take one each.
    """
    row = conn.execute(
        select(schedules)
        .where(schedules.c.next_at <= now)
        .order_by(schedules.c.next_at, schedules.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if row is None:
        return None
    try:
        due, following = _due(row, now)
    except cron.BadSchedule as error:
        # it could be used when it was deployed: the host has lost its zones. Nobody else has to wait for that
        conn.execute(update(schedules).where(schedules.c.id == row.id).values(paused=True, next_at=None))
        return [Tick(row.id, row.next_at, None, f"paused: {error.message}")]
    fired: list[Tick] = []
    previous = row.last_at
    for number, at in enumerate(due):
        # a microsecond between them: runs made in one transaction are claimed in the order of their ticks
        tick = _fire(conn, now + number * 1e-6, row, at, previous, payloads)
        if tick is not None:
            fired.append(tick)
        previous = at
    conn.execute(update(schedules).where(schedules.c.id == row.id).values(next_at=following, last_at=previous))
    return fired


def _due(row: Row[Any], now: float) -> tuple[list[float], float]:
    """The ticks to fire now, and the next one after them (which may be due as well)."""
    if row.catchup == "all":
        due = [row.next_at, *cron.upcoming(row.cron, row.timezone, row.next_at, TICKS_AT_ONCE)]
        following = due.pop()
        late = [at for at in due if at <= now]
        return late, following if len(late) == len(due) else due[len(late)]
    # one that is a little late is not missed: a restart takes a moment
    latest = row.next_at
    if now - latest >= TICK_GRACE:
        latest = cron.next_after(row.cron, row.timezone, now - TICK_GRACE)
    if latest > now:
        return [], latest
    return [latest], cron.next_after(row.cron, row.timezone, max(now, latest))


def _fire(
    conn: Connection, now: float, row: Row[Any], at: float, previous: float | None, payloads: Payloads
) -> Tick | None:
    """The run of one tick. None where the tick has been fired before: its key makes that certain."""
    added = conn.scalar(
        dialect.insert(conn.dialect.name, ticks)
        .values(schedule_id=row.id, at=at, fired_at=now)
        .on_conflict_do_nothing()
        .returning(ticks.c.at)
    )
    if added is None:
        return None
    run, problem = None, None
    topics: set[str] = set()
    try:
        with conn.begin_nested():
            made = _trigger(conn, now, row, at, previous, payloads)
        run, topics = made.run.id, made.topics
    except Refused as error:
        # one task that can't take its run must not keep the others from theirs
        problem = error.message
    where = (ticks.c.schedule_id == row.id) & (ticks.c.at == at)
    conn.execute(update(ticks).where(where).values(run_id=run, problem=problem))
    return Tick(row.id, at, run, problem, frozenset(topics))


def _trigger(
    conn: Connection, now: float, row: Row[Any], at: float, previous: float | None, payloads: Payloads
) -> Made:
    name = f"{row.project}/{row.task}"
    schema = decode(targets.resolve(conn, name).schema)
    body = TriggerRequest(payload={**decode(row.payload), **arguments(schema, row.timezone, at, previous)})
    planned = plan(conn, now, name, body, payloads, origin=Origin("schedule", row.id))
    assert isinstance(planned, Plan)  # without an idempotency key there is no earlier run
    assert planned.payload is not None
    return create(conn, now, planned, Stored(planned.payload.text, None, planned.payload.size))


# ---------------------------------------------------------------- for people


def listing(
    conn: Connection, now: float, project: str | None, cursor: str | None, limit: int
) -> tuple[list[Row[Any]], str | None]:
    """The schedules there are, each with its last tick, and the cursor of the next page."""
    query = _SHOWN.where(schedules.c.removed_at.is_(None)).order_by(schedules.c.id).limit(limit + 1)
    if project is not None:
        query = query.where(schedules.c.project == project)
    if cursor is not None:
        query = query.where(schedules.c.id > cursor)
    rows = list(conn.execute(query))
    more, rows = len(rows) > limit, rows[:limit]
    return rows, rows[-1].id if more else None


def get(conn: Connection, now: float, schedule: str) -> Row[Any]:
    """The schedule with its last tick. Raises NotFound."""
    query = _SHOWN.where(schedules.c.id == schedule, schedules.c.removed_at.is_(None))
    row = conn.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"there is no schedule {schedule!r}")
    return row


def locked(conn: Connection, schedule: str) -> Row[Any]:
    """The schedule, held until the transaction ends. Raises NotFound."""
    row = conn.execute(
        select(schedules).where(schedules.c.id == schedule, schedules.c.removed_at.is_(None)).with_for_update()
    ).one_or_none()
    if row is None:
        raise NotFound(f"there is no schedule {schedule!r}")
    return row


def set_paused(conn: Connection, now: float, schedule: str, paused: bool) -> Row[Any]:
    """Pauses or resumes. What would have been fired meanwhile is not made up."""
    row = locked(conn, schedule)
    if row.paused != paused:
        next_at = None if paused else following(row.cron, row.timezone, now, row.last_at)
        conn.execute(update(schedules).where(schedules.c.id == schedule).values(paused=paused, next_at=next_at))
    return get(conn, now, schedule)


def upcoming(conn: Connection, now: float, schedule: str, count: int) -> list[tuple[float, str]]:
    """The next ticks: seconds since the epoch, and the local time. Of a paused one, as if it were resumed now."""
    row = get(conn, now, schedule)
    found = cron.upcoming(row.cron, row.timezone, now, count)
    return [(at, local(at, row.timezone)) for at in found]


def next_due(conn: Connection) -> float | None:
    """When the next tick of any schedule is due."""
    soonest: float | None = conn.scalar(select(func.min(schedules.c.next_at)))
    return soonest
