"""Making runs: from a trigger's body, or from an earlier run.

In two steps, so that the write is short: `plan` reads and checks everything, `create` only inserts. An
idempotency key is unique in the database per project and task; two triggers that race make one run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, delete, func, insert, select, update
from sqlalchemy.sql.dml import ReturningInsert

from coordinator.foundation import ids
from coordinator.foundation.errors import Conflict, NotFound, Refused, invalid_field
from coordinator.foundation.limits import DEBOUNCE_FACTOR, MAX_DELAY, MAX_MEMORY, MIN_MEMORY, RUNNER_ALIVE
from coordinator.line import concurrency, lanes, queues
from coordinator.line.queues import Limits
from coordinator.runs import admission, copies, targets
from coordinator.runs.copies import Copied
from coordinator.runs.targets import Target
from coordinator.signals import waking
from coordinator.storage import dialect
from coordinator.storage.tables import IS_DELAYED, run_tags, runners, runs
from coordinator.storage.values import Encoded, Stored, decode, digest, encode, encode_small
from coordinator.tasks.payloads import Payloads
from coordinator.wire import Debounce, ErrorBody, ReplayRequest, TriggerRequest


class Origin(NamedTuple):
    """What triggers a run: "api", "schedule", "failure", "replay" …, and which of them."""

    kind: str = "api"
    id: str | None = None


_BY_API = Origin()


@dataclass(frozen=True)
class Family:
    """Where a child run belongs: its parent and the wait there that makes it, and what comes down to it."""

    parent: str
    key: str
    root: str
    depth: int
    trace: str
    detached: bool


@dataclass(frozen=True)
class Plan:
    """A run that is ready to be made. `payload` is None where an earlier run's stored one is used."""

    target: Target
    payload: Encoded | None
    fingerprint: str
    memory: int
    priority: int
    delay: float = 0.0
    ttl: float | None = None
    idempotency_key: str | None = None
    concurrency_key: str | None = None
    tags: list[str] = field(default_factory=list)
    stored: Stored | None = None
    copied: Copied | None = None
    debounce: Debounce | None = None
    origin: Origin = _BY_API
    family: Family | None = None

    @property
    def queue(self) -> str:
        return queues.name_of(self.target.task, self.target.options)


class Made(NamedTuple):
    """A run that was triggered. `created`: made now, and not by an earlier trigger; `topics` are to be woken."""

    run: Row[Any]
    created: bool
    topics: set[str]


def plan(
    conn: Connection,
    now: float,
    name: str,
    body: TriggerRequest,
    payloads: Payloads,
    target: Target | None = None,
    origin: Origin = _BY_API,
) -> Plan | Row[Any]:
    """What to make, or the run that the idempotency key has made already.

    `target` is what `name` means, where that is known.

    Raises NotFound, Conflict (`idempotency_conflict`, `ambiguous_task`), Invalid and TooLarge.
    """
    target = target or targets.resolve(conn, name, body.version)
    fingerprint = digest(body.model_dump(mode="json", exclude={"idempotency_key"}))
    if body.idempotency_key is not None:
        # before the payload is checked: the schema may have changed since the run was made
        existing = _existing(conn, target, body.idempotency_key, fingerprint)
        if existing is not None:
            return existing
    payload = encode(body.payload, "payload")
    payloads.check(target.deployment, target.task, target.schema, body.payload)
    if body.delay > MAX_DELAY:
        raise invalid_field("delay", f"{body.delay:g} s is too long: at most {MAX_DELAY / 86400:g} days")
    if body.ttl is not None and not 0 < body.ttl <= MAX_DELAY:
        raise invalid_field(
            "ttl", f"{body.ttl:g} s: give more than 0, and at most 366 days; it counts from the end of the delay"
        )
    _check_debounce(body)
    tags = list(dict.fromkeys(body.tags))
    return Plan(
        target=target,
        payload=payload,
        fingerprint=fingerprint,
        memory=_memory(conn, now, body.memory, target),
        priority=body.priority if "priority" in body.model_fields_set else target.options.priority,
        delay=body.delay if body.debounce is None else body.debounce.delay,
        ttl=body.ttl if body.ttl is not None else target.options.ttl,
        idempotency_key=body.idempotency_key,
        concurrency_key=concurrency.key(body.concurrency_key, target.options.concurrency_key, body.payload),
        tags=tags,
        debounce=body.debounce,
        origin=origin,
    )


def plan_replay(conn: Connection, now: float, run_id: str, body: ReplayRequest, payloads: Payloads) -> Plan:
    """A new run of what `run_id` ran, with what `body` changes."""
    old = conn.execute(select(runs).where(runs.c.id == run_id)).one_or_none()
    if old is None:
        raise NotFound(f"there is no run {run_id!r}")
    target = targets.resolve(conn, f"{old.project}/{old.task}", body.version)
    payload, key = None, old.concurrency_key
    if body.payload is not None:
        payload = encode(body.payload, "payload")
        payloads.check(target.deployment, target.task, target.schema, body.payload)
        if target.options.concurrency_key is not None:
            key = concurrency.key(None, target.options.concurrency_key, body.payload)
    copied = None
    if body.from_checkpoint is not None:
        position = copies.position(conn, run_id, body.from_checkpoint)
        copied = Copied(run_id, position)
    return Plan(
        target=target,
        payload=payload,
        stored=None if payload else Stored(old.payload, old.payload_blob),
        fingerprint=digest({"replay": run_id, **body.model_dump(mode="json")}),
        memory=max(old.memory, target.options.memory),
        priority=old.priority,
        concurrency_key=key,
        tags=decode(old.tags),
        copied=copied,
        origin=Origin("replay", run_id),
    )


_ADD = insert(runs)


@cache
def _insert(dialect_name: str) -> ReturningInsert[Any]:
    """Built once: a run that has the idempotency key, or is debounced by the key, makes it insert nothing."""
    return dialect.insert(dialect_name, runs).on_conflict_do_nothing().returning(*runs.c)


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
        existing = _existing(conn, plan.target, plan.idempotency_key, plan.fingerprint)
        if existing is not None:
            return Made(existing, False, set())
        values = _values(now, plan, payload)
        admission.check_rate(conn, now, limits, plan.concurrency_key)
        values["rated_at"] = now if limits.refuses else None
        skipped = None if values["due_at"] else admission.skips(conn, limits, plan.concurrency_key)
        if skipped is not None:
            error = ErrorBody(type="Skipped", message=skipped, reason="canceled")
            values |= {"status": "canceled", "finished_at": now, "expires_at": None, "rated_at": None}
            values["deadline_at"] = None
            values["error"] = encode_small(error.model_dump())
        run = conn.execute(_insert(conn.dialect.name), values).one_or_none()
        if run is not None:
            break
        # a trigger with the same key was faster: what it made is committed by now, and found
    if plan.tags:
        conn.execute(insert(run_tags), [{"tag": tag, "run_id": run.id} for tag in plan.tags])
    if plan.copied is not None:
        copies.copy(conn, plan.copied, run.id)
    if plan.origin.kind == "replay":
        # what is replayed is dealt with: it leaves the dead-letter list
        conn.execute(update(runs).where(runs.c.id == plan.origin.id).values(dead_at=None))
    topics = admission.make_room(conn, now, limits, run, woken) if run.status == "queued" else set()
    return Made(run, True, topics)


def _insert_many(conn: Connection, now: float, planned: list[tuple[Plan, Stored]]) -> list[Row[Any]]:
    """Runs that nothing stands in the way of, in a few statements for all of them."""
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
    return [found[row["id"]] for row in rows]


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
        "id": ids.run(),
        "project": project,
        "task": plan.target.task,
        "deployment_id": plan.target.deployment,
        "version": plan.target.version,
        "status": "delayed" if due else "queued",
        "payload": payload.text,
        "payload_blob": payload.blob,
        "tags": encode_small(plan.tags),
        "priority": plan.priority,
        "concurrency_key": key,
        "idempotency_key": plan.idempotency_key,
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


def _check_debounce(body: TriggerRequest) -> None:
    debounce = body.debounce
    if debounce is None:
        return
    for name in ("delay", "idempotency_key"):
        if name in body.model_fields_set and getattr(body, name):
            raise invalid_field(name, "not together with debounce, which makes one run of many triggers")
    longest = debounce.delay * DEBOUNCE_FACTOR if debounce.max_delay is None else debounce.max_delay
    if not 0 < debounce.delay <= MAX_DELAY:
        raise invalid_field("debounce.delay", f"{debounce.delay:g} s: give more than 0, and at most 366 days")
    if not debounce.delay <= longest:
        raise invalid_field("debounce.max_delay", f"{longest:g} s is shorter than the delay: give at least as much")


def _existing(conn: Connection, target: Target, key: str | None, fingerprint: str) -> Row[Any] | None:
    if key is None:
        return None
    row = conn.execute(
        select(runs).where(
            runs.c.project == target.project, runs.c.task == target.task, runs.c.idempotency_key == key
        )
    ).one_or_none()
    if row is not None and row.fingerprint != fingerprint:
        raise Conflict(
            f"the idempotency key {key!r} was used for the run {row.id} with another body: "
            "send the same body, or take another key",
            code="idempotency_conflict",
        )
    return row


def _memory(conn: Connection, now: float, asked: int | None, target: Target) -> int:
    if asked is None:
        return target.options.memory
    if asked < MIN_MEMORY:
        raise invalid_field("memory", f"{asked} bytes is too little: at least {MIN_MEMORY} (32m)")
    largest = largest_memory(conn, now)
    if asked > (largest or MAX_MEMORY):
        raise invalid_field(
            "memory",
            f"{asked} bytes is more than any runner gives one task: the largest is {largest or MAX_MEMORY}",
        )
    return asked


def largest_memory(conn: Connection, now: float) -> int | None:
    """The most that a live runner gives one task; None while no runner is live."""
    live = runners.c.seen_at > now - RUNNER_ALIVE
    largest: int | None = conn.scalar(select(func.max(runners.c.task_memory)).where(live))
    return largest
