"""Making runs of plans (`plans`): what is read and checked already is only inserted here.

Of two triggers with one idempotency key that race one makes the run (`idempotency`).
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, delete, insert, select, update

from coordinator.files import files
from coordinator.foundation import ids
from coordinator.foundation.errors import Refused
from coordinator.foundation.limits import DEBOUNCE_FACTOR
from coordinator.history import facts, fingerprints
from coordinator.line import lanes, queues
from coordinator.line.queues import Limits
from coordinator.runs import admission, copies, idempotency
from coordinator.runs.plans import Plan
from coordinator.signals import waking
from coordinator.storage import dialect, quota
from coordinator.storage.prepared import Prepared
from coordinator.storage.tables import IS_DELAYED, run_tags, runs
from coordinator.storage.values import Stored, encode_small
from coordinator.wire import ErrorBody


class Made(NamedTuple):
    """A run that was triggered. `created`: made now, and not by an earlier trigger; `topics` are to be woken."""

    run: Row[Any]
    created: bool
    topics: set[str]


_ADD = insert(runs)


@cache
def _insert(dialect_name: str) -> Prepared:
    """Built once: a run that has the idempotency key, or is debounced by the key, makes it insert nothing."""
    return Prepared(dialect.insert(dialect_name, runs).on_conflict_do_nothing().returning(*runs.c))


def create(conn: Connection, now: float, plan: Plan, payload: Stored, queued: list[Row[Any]] | None = None) -> Made:
    """The run of a trigger: new, or the one that another trigger with the same key has made.

    Raises Conflict (`idempotency_conflict`), RateLimited. For `queued` see `create_all`.
    """
    (made,) = create_all(conn, now, [(plan, payload)], queued)
    return made


def create_all(
    conn: Connection, now: float, planned: list[tuple[Plan, Stored]], queued: list[Row[Any]] | None = None
) -> list[Made]:
    """The runs of several triggers of one task, in their order, in this one transaction.

    What is refused (as by `create`) carries the trigger's number in `.item`. Where `queued` is given, those that
    are queued are added to it, for a caller that changes more runs and then calls `lanes.enter` for all of them.
    """
    limits = lock_queues(conn, [plan for plan, _ in planned])
    woken: list[Row[Any]] = []
    plain = not any(found.refuses or found.on_full != "queue" for found in limits.values())
    if plain and all(
        p.idempotency_key is None and p.debounce is None and p.origin.kind != "replay" for p, _ in planned
    ):
        made = [Made(run, True, set()) for run in _insert_many(conn, now, planned)]
    else:
        made = []
        for number, (plan, payload) in enumerate(planned):
            try:
                made.append(_create(conn, now, plan, payload, limits[plan.target.project, plan.queue], woken))
            except Refused as error:
                error.item = number
                raise
    # those who wait for room look at the line as it is after all of them
    entering = [*woken, *(m.run for m in made if m.created and m.run.status == "queued")]
    if queued is None:
        lanes.enter(conn, entering)
    else:
        queued += entering
    topics = set().union(*(_topics(m) for m in made))
    return [Made(run, created, topics) for run, created, _ in made]


def lock_queues(conn: Connection, plans: list[Plan]) -> dict[tuple[str, str], Limits]:
    """What holds for the queues of the plans, by project and name. Whoever locks runs as well does this before."""
    queued_by = {(plan.target.project, plan.queue): plan for plan in plans}
    return {queue: _limits(conn, plan) for queue, plan in sorted(queued_by.items(), key=lambda item: item[0])}


def _limits(conn: Connection, plan: Plan) -> Limits:
    """What holds for the queue; it is locked where the trigger's fate depends on what is in it."""
    project, name = plan.target.project, plan.queue
    limits = plan.target.limits
    if limits is None:
        queues.ensure(conn, project, name, plan.target.options.queue)
        limits = queues.get(conn, project, name)
    if limits is not None and (limits.refuses or limits.on_full != "queue"):
        limits = queues.lock(conn, project, name)
    assert limits is not None  # queues are not deleted
    return limits


def _create(
    conn: Connection, now: float, plan: Plan, payload: Stored, limits: Limits, woken: list[Row[Any]]
) -> Made:
    while True:
        if plan.debounce is not None and (put_off := _put_off(conn, now, plan, payload)) is not None:
            return Made(put_off, False, {waking.DUE, waking.run(put_off.id)})
        existing = idempotency.take(conn, now, plan.target, plan.idempotency_key, plan.fingerprint)
        if existing is not None:
            return Made(existing, False, set())
        _admit(conn, [(plan, payload)])
        values = _values(now, plan, payload)
        admission.check_rate(conn, now, limits, plan.concurrency_key)
        values["rated_at"] = now if limits.refuses else None
        error = None
        skipped = None if values["due_at"] else admission.skips(conn, limits, plan.concurrency_key)
        if skipped is not None:
            error = fingerprints.know(ErrorBody(type="Skipped", message=skipped, reason="canceled"))
            values |= {"status": "canceled", "finished_at": now, "expires_at": None, "rated_at": None}
            values |= {"deadline_at": None, **error.columns()}
        run = conn.execute(_insert(conn.dialect.name), values).one_or_none()
        if run is not None:
            break
        # a trigger with the same key was faster: what it made is committed by now, and found
    if error is not None:
        facts.runs_ended(conn, now, [run], error)
    if plan.tags:
        conn.execute(insert(run_tags), [{"tag": tag, "run_id": run.id} for tag in plan.tags])
    _give_files(conn, [(run, plan)])
    if plan.copied is not None:
        copies.copy(conn, plan.copied, run.id)
    if plan.origin.kind == "replay":
        # what is replayed is dealt with: it leaves the dead-letter list
        conn.execute(update(runs).where(runs.c.id == plan.origin.id).values(dead_at=None))
    topics = admission.make_room(conn, now, limits, run, woken) if run.status == "queued" else set()
    return Made(run, True, topics)


def _insert_many(conn: Connection, now: float, planned: list[tuple[Plan, Stored]]) -> list[Row[Any]]:
    """Runs that nothing stands in the way of, in a few statements for all of them."""
    _admit(conn, planned)
    rows = [_values(now, plan, payload) for plan, payload in planned]
    # in their order: what is made in one millisecond sorts by chance otherwise
    for row, name in zip(rows, sorted(row["id"] for row in rows), strict=True):
        row["id"] = name
    if len(rows) == 1:
        made = list(conn.execute(_insert(conn.dialect.name), rows[0]))
    else:
        conn.execute(_ADD, rows)
        made = list(conn.execute(select(runs).where(runs.c.id.in_([row["id"] for row in rows]))))
    tags = [
        {"tag": t, "run_id": row["id"]} for row, (plan, _) in zip(rows, planned, strict=True) for t in plan.tags
    ]
    if tags:
        conn.execute(insert(run_tags), tags)
    found = {run.id: run for run in made}
    _give_files(conn, [(found[row["id"]], plan) for row, (plan, _) in zip(rows, planned, strict=True)])
    return [found[row["id"]] for row in rows]


def _give_files(conn: Connection, made: list[tuple[Row[Any], Plan]]) -> None:
    """Raises Invalid where a payload refers to what is not there."""
    project = made[0][1].target.project
    files.give(conn, project, [(run.id, plan.files) for run, plan in made if plan.files])
    for run, plan in made:
        if plan.stored is not None and plan.origin.id is not None:
            files.give_again(conn, plan.origin.id, run.id)


def _admit(conn: Connection, planned: list[tuple[Plan, Stored]]) -> None:
    """Raises TooMuch, DiskFull. What tells of a failure belongs to the end of a run, which goes on in any case."""
    counted = [(plan, payload) for plan, payload in planned if plan.origin.kind != "failure"]
    if counted:
        plan = counted[0][0]
        root = None if plan.family is None else plan.family.root
        size = sum(payload.size for _, payload in counted)
        quota.check_runs(conn, plan.target.project, root, len(counted), size)


def _put_off(conn: Connection, now: float, plan: Plan, payload: Stored) -> Row[Any] | None:
    """The run that waits under the debounce key, now with this trigger's payload and options; None for none."""
    assert plan.debounce is not None
    waiting = conn.execute(
        select(runs.c.id, runs.c.debounce_until)
        .where(
            runs.c.project == plan.target.project,
            runs.c.task == plan.target.task,
            runs.c.debounce_key == plan.debounce.key,
            IS_DELAYED,
        )
        .with_for_update()
    ).one_or_none()
    if waiting is None:
        return None
    values = _values(now, plan, payload, latest=waiting.debounce_until)
    # it stays whose it was: the family is that of the first trigger
    family = ("parent", "parent_key", "root", "depth", "detached")
    kept = ("id", "created_at", "trace_id", "debounce_until", "idempotency_key", *family)
    run = conn.execute(
        update(runs)
        .where(runs.c.id == waiting.id)
        .values({name: value for name, value in values.items() if name not in kept})
        .returning(*runs.c)
    ).one()
    files.take_back(conn, run.id)
    _give_files(conn, [(run, plan)])
    conn.execute(delete(run_tags).where(run_tags.c.run_id == run.id))
    if plan.tags:
        conn.execute(insert(run_tags), [{"tag": tag, "run_id": run.id} for tag in plan.tags])
    return run


def _values(now: float, plan: Plan, payload: Stored, latest: float | None = None) -> dict[str, Any]:
    """A new run's row; where it is delayed, it is due at `latest` at the latest."""
    due = now + plan.delay if plan.delay > 0 else None
    if due is not None and latest is not None:
        due = min(due, latest)
    eligible = due or now
    project, queue, key = plan.target.project, plan.queue, plan.concurrency_key
    debounce, family = plan.debounce, plan.family
    longest = None if debounce is None else debounce.max_delay or debounce.delay * DEBOUNCE_FACTOR
    total = plan.target.options.total_timeout
    return {
        "id": ids.run(now),
        "project": project,
        "task": plan.target.task,
        "deployment_id": plan.target.deployment,
        "version": plan.target.version,
        "status": "delayed" if due else "queued",
        "payload": payload.text,
        "payload_blob": payload.blob,
        "bytes": payload.size,
        "tags": encode_small(plan.tags),
        "priority": plan.priority,
        "concurrency_key": key,
        "idempotency_key": plan.idempotency_key,
        "key_until": None if plan.idempotency_ttl is None else now + plan.idempotency_ttl,
        "fingerprint": plan.fingerprint,
        "memory": plan.memory,
        "created_at": now,
        "queued_at": eligible,
        "order_at": eligible - plan.priority,
        "due_at": due,
        "expires_at": eligible + plan.ttl if plan.ttl is not None else None,
        "attempts": 0,
        "failures": 0,
        "ooms": 0,
        "losses": 0,
        "trace_id": ids.trace() if family is None else family.trace,
        "parent": None if family is None else family.parent,
        "parent_key": None if family is None else family.key,
        "root": None if family is None else family.root,
        "depth": 0 if family is None else family.depth,
        "detached": family is not None and family.detached,
        "queue": queue,
        "lane": lanes.name(project, queue, plan.target.task, key, plan.memory),
        "debounce_key": None if debounce is None else debounce.key,
        "debounce_until": None if longest is None else now + longest,
        "origin": plan.origin.kind,
        "origin_id": plan.origin.id,
        "deadline_at": None if total is None else eligible + total,
    }


def _topics(made: Made) -> set[str]:
    """Whom a trigger concerns, besides those whose runs it canceled."""
    if not made.created:
        return made.topics
    topics = set(made.topics)
    if made.run.status == "queued":
        topics.add(waking.CLAIMS)
    if any(at is not None for at in (made.run.due_at, made.run.expires_at, made.run.deadline_at)):
        topics.add(waking.DUE)
    return topics
