"""Events: named messages, each stored once and fanned out to the tasks that listen to it.

All in one transaction: the event is durable, and every task of a current deployment that listens to it has its run
(or the reason why it has none), or nothing at all has happened. An id makes an event one however often it is sent;
the key of `event_runs` makes a task's run of it one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, insert, select, update

from coordinator.foundation import again, ids, sight
from coordinator.foundation.errors import Conflict, NotFound, Refused
from coordinator.foundation.limits import MAX_EVENT
from coordinator.line import lanes
from coordinator.runs import idempotency, targets
from coordinator.runs.plans import Origin, Plan, plan
from coordinator.runs.triggers import Made, create_all
from coordinator.storage import dialect, quota
from coordinator.storage.tables import event_runs, events, listeners, projects, runs
from coordinator.storage.values import Stored, decode, digest, encode, encode_small
from coordinator.tasks import arguments, where
from coordinator.tasks.index import TaskIndex, TaskOptions
from coordinator.tasks.payloads import Payloads
from coordinator.waits import event_waits
from coordinator.waits.event_waits import EVERYWHERE
from coordinator.wire import EventRequest, TriggerRequest


class Emitted(NamedTuple):
    """An event, its runs (rows of `event_runs`), whether it is new, and topics to wake."""

    event: Row[Any]
    runs: list[Row[Any]]
    created: bool
    topics: set[str]


class _Listener(NamedTuple):
    project: str
    task: str


def listen(conn: Connection, deployment: str, index: TaskIndex) -> None:
    """Keeps what the tasks of a deployment listen to, for when it is the current one."""
    rows = [
        {
            "deployment_id": deployment,
            "task": task.id,
            "number": number,
            "event": wanted.name,
            "filter": None if wanted.where is None else encode_small(wanted.where),
        }
        for task in index.tasks
        for number, wanted in enumerate(TaskOptions.model_validate(task.options).on_event)
    ]
    if rows:
        conn.execute(insert(listeners), rows)


def emit(conn: Connection, now: float, body: EventRequest, payloads: Payloads) -> Emitted:
    """Stores an event and does what it causes; of an event that was sent before, what it caused then.

    Raises Invalid and TooLarge (payload), NotFound (`unknown_project`), Conflict (`event_conflict`), TooMuch.
    """
    payload = encode(body.payload, "payload", MAX_EVENT)
    project = body.project or EVERYWHERE
    _check_project(conn, project)
    dialect.lock_event(conn, body.name, sending=True)
    key = again.same("event", ids.event)
    values = {
        "key": key,
        "project": project,
        "name": body.name,
        "id": body.id or key,
        "payload": payload.text,
        "fingerprint": digest({"name": body.name, "payload": body.payload}),
        "created_at": now,
    }
    added = dialect.insert(conn.dialect.name, events).values(values).on_conflict_do_nothing().returning(*events.c)
    event = conn.execute(added).one_or_none()
    if event is None:
        return _sent_before(conn, now, project, values, body.payload, payloads)
    if project:
        quota.check_bytes(conn, now, project, payload.size)
    topics = _fan_out(conn, now, event, body.payload, payloads)
    woken: list[Row[Any]] = []
    topics |= event_waits.deliver(conn, now, event, body.payload, woken)
    lanes.enter(conn, woken)
    return Emitted(event, runs_of(conn, [key]), True, topics)


def _sent_before(
    conn: Connection, now: float, project: str, values: dict[str, Any], payload: Any, payloads: Payloads
) -> Emitted:
    query = select(events).where(events.c.project == project, events.c.id == values["id"])
    known = conn.execute(query.with_for_update()).one()
    if known.fingerprint != values["fingerprint"]:
        raise Conflict(
            f"the id {known.id!r} was used for another event ({known.name!r}): send the same name and payload, or "
            "take another id",
            code="event_conflict",
        )
    topics = _make_up(conn, now, known, payload, payloads)
    return Emitted(known, runs_of(conn, [known.key]), False, topics)


def _make_up(conn: Connection, now: float, event: Row[Any], payload: Any, payloads: Payloads) -> set[str]:
    """The runs that an event which is sent again still owes: of tasks that got none, or one that never started."""
    query = (
        select(event_runs.c.project, event_runs.c.task, event_runs.c.run_id, runs.c.finished_at, runs.c.attempts)
        .outerjoin_from(event_runs, runs, runs.c.id == event_runs.c.run_id)
        .where(event_runs.c.event == event.key)
    )
    # a run that was removed is old, and has had its time
    owed = {
        _Listener(row.project, row.task)
        for row in conn.execute(query)
        if row.run_id is None or (row.attempts is not None and idempotency.never_ran(row))
    }
    listening = [listener for listener in _listening(conn, event, payload) if listener in owed] if owed else []
    results, topics = _make(conn, now, listening, event, payload, payloads)
    for result in results:
        of = (event_runs.c.event == event.key) & (event_runs.c.project == result["project"])
        values = {"run_id": result["run_id"], "problem": result["problem"]}
        conn.execute(update(event_runs).where(of, event_runs.c.task == result["task"]).values(**values))
    return topics


def _check_project(conn: Connection, project: str) -> None:
    if project == EVERYWHERE:
        return
    names = list(conn.scalars(select(projects.c.name).order_by(projects.c.name)))
    if project not in names:
        names = list(filter(sight.sees, names))
        known = f"there are {', '.join(names[:20])}" if names else "nothing is deployed yet"
        raise NotFound(f"there is no project {project!r}: {known}", code="unknown_project")


# ---------------------------------------------------------------- fanning out


def _fan_out(conn: Connection, now: float, event: Row[Any], payload: Any, payloads: Payloads) -> set[str]:
    """The runs of the tasks that listen."""
    results, topics = _make(conn, now, _listening(conn, event, payload), event, payload, payloads)
    if results:
        conn.execute(insert(event_runs), [{"event": event.key, **result} for result in results])
    return topics


def _make(
    conn: Connection, now: float, listening: list[_Listener], event: Row[Any], payload: Any, payloads: Payloads
) -> tuple[list[dict[str, Any]], set[str]]:
    """What becomes of the event in these tasks. One that can't take it keeps no other from it."""
    planned: list[tuple[_Listener, Plan]] = []
    results: list[dict[str, Any]] = []
    for listener in listening:
        try:
            planned.append((listener, _plan(conn, now, listener, event, payload, payloads)))
        except Refused as error:
            results.append({**listener._asdict(), "run_id": None, "problem": error.message})
    made: list[Made] = []
    while planned:
        try:
            with conn.begin_nested():
                made = create_all(conn, now, [(item, _stored(item)) for _, item in planned])
            break
        except Refused as error:
            refused, _ = planned.pop(error.item or 0)
            results.append({**refused._asdict(), "run_id": None, "problem": error.message})
    for (listener, _), run in zip(planned, made, strict=True):
        results.append({**listener._asdict(), "run_id": run.run.id, "problem": None})
    return results, set().union(*(run.topics for run in made))


def _listening(conn: Connection, event: Row[Any], payload: Any) -> list[_Listener]:
    """Tasks of current deployments with a filter that fits, each once."""
    query = (
        select(projects.c.name, listeners.c.task, listeners.c.filter)
        .join_from(listeners, projects, projects.c.current_deployment == listeners.c.deployment_id)
        .where(listeners.c.event == event.name)
        .order_by(projects.c.name, listeners.c.task, listeners.c.number)
    )
    if event.project != EVERYWHERE:
        query = query.where(projects.c.name == event.project)
    fitting = [
        _Listener(project, task)
        for project, task, text in conn.execute(query)
        if where.matches(decode(text), payload)
    ]
    return list(dict.fromkeys(fitting))


def _plan(
    conn: Connection, now: float, listener: _Listener, event: Row[Any], payload: Any, payloads: Payloads
) -> Plan:
    name = f"{listener.project}/{listener.task}"
    target = targets.resolve(conn, name)
    given = arguments.declared(decode(target.schema), {"event": payload, "event_id": event.id})
    planned = plan(conn, now, name, TriggerRequest(payload=given), payloads, target, Origin("event", event.id))
    assert isinstance(planned, Plan)  # without an idempotency key there is no earlier run
    return planned


def _stored(planned: Plan) -> Stored:
    assert planned.payload is not None
    return Stored(planned.payload.text, None, planned.payload.size)


# ---------------------------------------------------------------- for people


def runs_of(conn: Connection, keys: list[str]) -> list[Row[Any]]:
    """What became of events in the tasks that listened."""
    query = select(event_runs).where(event_runs.c.event.in_(keys))
    return list(conn.execute(query.order_by(event_runs.c.event, event_runs.c.project, event_runs.c.task)))


def listing(
    conn: Connection, now: float, project: str | None, name: str | None, cursor: str | None, limit: int
) -> tuple[list[tuple[Row[Any], list[Row[Any]]]], str | None]:
    """The newest first, each with its runs, and the cursor of the next page."""
    query = select(events).order_by(events.c.key.desc()).limit(limit + 1)
    if project is not None:
        query = query.where(events.c.project.in_((EVERYWHERE, project)))
    if name is not None:
        query = query.where(events.c.name == name)
    if cursor is not None:
        query = query.where(events.c.key < cursor)
    rows = list(conn.execute(query))
    more, rows = len(rows) > limit, rows[:limit]
    found: dict[str, list[Row[Any]]] = {}
    for run in runs_of(conn, [row.key for row in rows]):
        if project is None or run.project == project:
            found.setdefault(run.event, []).append(run)
    return [(row, found.get(row.key, [])) for row in rows], rows[-1].key if more else None
