"""A run that is ready to be made: everything read and checked, so that the write is short.

From a trigger's body, or from an earlier run. `triggers` makes runs of plans.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, func, select

from coordinator.files import files
from coordinator.foundation.errors import NotFound, invalid_field
from coordinator.foundation.limits import DEBOUNCE_FACTOR, MAX_DELAY, MAX_MEMORY, MIN_MEMORY, RUNNER_ALIVE
from coordinator.line import concurrency, queues
from coordinator.runs import copies, idempotency, targets
from coordinator.runs.copies import Copied
from coordinator.runs.targets import Target
from coordinator.storage.tables import runners, runs
from coordinator.storage.values import Encoded, Stored, decode, digest, encode
from coordinator.tasks.payloads import Payloads
from coordinator.wire import Debounce, ReplayRequest, TriggerRequest


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
    #: Of the body that the idempotency key stands for; empty without one.
    fingerprint: str
    memory: int
    priority: int
    delay: float = 0.0
    ttl: float | None = None
    idempotency_key: str | None = None
    idempotency_ttl: float | None = None
    concurrency_key: str | None = None
    tags: list[str] = field(default_factory=list)
    stored: Stored | None = None
    copied: Copied | None = None
    debounce: Debounce | None = None
    origin: Origin = _BY_API
    family: Family | None = None
    #: The files that the payload refers to, with where each stands in it.
    files: dict[str, str] = field(default_factory=dict)

    @property
    def queue(self) -> str:
        return queues.name_of(self.target.task, self.target.options)


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
    idempotency.check(body.idempotency_key, body.idempotency_ttl)
    fingerprint = ""
    if body.idempotency_key is not None:
        fingerprint = digest(body.model_dump(mode="json", exclude={"idempotency_key", "idempotency_ttl"}))
        # before the payload is checked: the schema may have changed since the run was made
        existing = idempotency.owner(conn, now, target, body.idempotency_key, fingerprint)
        if existing is not None:
            return existing
    payload = encode(body.payload, "payload")
    payloads.check(target.deployment, target.task, target.schema, body.payload, target.project, payload.text)
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
        idempotency_ttl=body.idempotency_ttl,
        concurrency_key=concurrency.key(body.concurrency_key, target.options.concurrency_key, body.payload),
        tags=tags,
        debounce=body.debounce,
        origin=origin,
        files=_files(payload, body.payload),
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
        payloads.check(target.deployment, target.task, target.schema, body.payload, target.project, payload.text)
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
        memory=max(old.memory, target.options.memory)
        if body.memory is None
        else _memory(conn, now, body.memory, target),
        priority=old.priority,
        concurrency_key=key,
        tags=decode(old.tags),
        copied=copied,
        origin=Origin("replay", run_id),
        files={} if payload is None else _files(payload, body.payload),
    )


def _files(encoded: Encoded, payload: Any) -> dict[str, str]:
    # most payloads have none, and are not looked through
    return files.references(payload) if f'"{files.REFERENCE}"' in encoded.text else {}


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
