"""Batches: many runs of one task, triggered at once, all or none."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, select, update

from coordinator.foundation.again import Again, Job
from coordinator.foundation.errors import Conflict, Invalid, Refused
from coordinator.runs import idempotency, plans, targets, triggers
from coordinator.runs.plans import Plan
from coordinator.runs.targets import Target
from coordinator.storage import dialect
from coordinator.storage.tables import batches, runs
from coordinator.storage.values import Stored, decode, digest, encode_small
from coordinator.tasks.payloads import Payloads
from coordinator.wire import BatchRequest, FieldProblem

_MOST_PROBLEMS = 50
_NOT_THE_BODY: Any = {"idempotency_key": True, "idempotency_ttl": True, "items": {"__all__": {"idempotency_ttl"}}}


@dataclass(frozen=True)
class Planned:
    """A batch that is ready to be made: for each item a plan, or the run that its own idempotency key has made."""

    target: Target
    items: list[Plan | Row[Any]]
    idempotency_key: str | None
    fingerprint: str
    idempotency_ttl: float | None = None


class Made(NamedTuple):
    """The runs in the order of the items. `created`: now, and not by an earlier request with the same key."""

    runs: list[Row[Any]]
    created: bool
    topics: set[str]


def plan(
    conn: Connection, now: float, name: str, body: BatchRequest, payloads: Payloads, version: str | None = None
) -> Planned | Made:
    """What to make, or what the idempotency key has made already. `version`: of items that name none.

    Raises as `plans.plan`, with the fields named as `items[3].payload`; wrong fields of all items at once.
    """
    target = targets.resolve(conn, name, version)
    known: dict[str | None, Target] = {None: target}
    idempotency.check(body.idempotency_key, body.idempotency_ttl)
    fingerprint = ""
    if body.idempotency_key is not None:
        fingerprint = digest(body.model_dump(mode="json", exclude=_NOT_THE_BODY))
        existing = _existing(conn, now, target, body.idempotency_key, fingerprint)
        if existing is not None:
            return existing
    items: list[Plan | Row[Any]] = []
    problems: list[FieldProblem] = []
    keys: set[str] = set()
    jobs: list[Job] = []
    for n, item in enumerate(body.items):
        try:
            if item.idempotency_key is not None and item.idempotency_key in keys:
                raise Invalid("", fields=[FieldProblem(path="idempotency_key", message="another item has it too")])
            if item.idempotency_key is not None:
                keys.add(item.idempotency_key)
            if item.version not in known:
                known[item.version] = targets.resolve(conn, f"{target.project}/{target.task}", item.version)
            items.append(plans.plan(conn, now, name, item, payloads, known[item.version]))
        except Invalid as error:
            problems += _named(n, error)
            if len(problems) >= _MOST_PROBLEMS:
                break
        except Refused as error:
            raise of_item(n, error) from None
        except Again as error:
            jobs += error.jobs
    if jobs and not problems:
        raise Again(jobs)
    if problems:
        shown = problems[:_MOST_PROBLEMS]
        listing = "; ".join(f"{problem.path}: {problem.message}" for problem in shown)
        raise Invalid(f"nothing was triggered: {listing}", code="bad_batch", fields=shown)
    return Planned(target, items, body.idempotency_key, fingerprint, body.idempotency_ttl)


def create(conn: Connection, now: float, planned: Planned, payloads: list[Stored]) -> Made:
    """All runs, or none where something is refused; `payloads` are those of the items that have a plan."""
    key, target = planned.idempotency_key, planned.target
    if key is not None:
        values = {
            "project": target.project,
            "task": target.task,
            "idempotency_key": key,
            "fingerprint": planned.fingerprint,
            "runs": "[]",
            "created_at": now,
            "key_until": None if planned.idempotency_ttl is None else now + planned.idempotency_ttl,
        }
        if conn.execute(_insert(conn.dialect.name), values).one_or_none() is None:
            # another request with the same key was faster, and is over by now; or the key is free again
            existing = _existing(conn, now, target, key, planned.fingerprint, lock=True)
            if existing is not None:
                return existing
            conn.execute(update(batches).where(_of(target, key)).values(**values))
    places = [n for n, item in enumerate(planned.items) if isinstance(item, Plan)]
    wanted = [item for item in planned.items if isinstance(item, Plan)]
    try:
        made = triggers.create_all(conn, now, list(zip(wanted, payloads, strict=True))) if wanted else []
    except Refused as error:
        raise of_item(places[error.item or 0], error) from None
    new = iter(made)
    found = [next(new).run if isinstance(item, Plan) else item for item in planned.items]
    if key is not None:
        names = encode_small([run.id for run in found])
        conn.execute(update(batches).where(_of(target, key)).values(runs=names))
    return Made(found, True, set().union(*(m.topics for m in made)))


def of_item(n: int, error: Refused) -> Refused:
    """The refusal of one item as that of its batch."""
    error.fields = _named(n, error)
    error.message = f"nothing was triggered: items[{n}]: {error.message}"
    error.args = (error.message,)
    return error


@cache
def _insert(dialect_name: str) -> Any:
    return dialect.insert(dialect_name, batches).on_conflict_do_nothing().returning(batches.c.project)


def _named(n: int, error: Refused) -> list[FieldProblem]:
    if not error.fields:
        return [FieldProblem(path=f"items[{n}]", message=error.message)]
    return [FieldProblem(path=f"items[{n}].{field.path}", message=field.message) for field in error.fields]


def _of(target: Target, key: str) -> ColumnElement[bool]:
    of_task = (batches.c.project == target.project) & (batches.c.task == target.task)
    return of_task & (batches.c.idempotency_key == key)


def _existing(
    conn: Connection, now: float, target: Target, key: str, fingerprint: str, *, lock: bool = False
) -> Made | None:
    """What the key has made; None where it is free: as with a run's, once none of its runs can run any more."""
    query = select(batches).where(_of(target, key))
    row = conn.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None or (row.key_until is not None and row.key_until <= now):
        return None
    names = decode(row.runs)
    found = {run.id: run for run in conn.execute(select(runs).where(runs.c.id.in_(names)))}
    if len(found) == len(names) and all(idempotency.never_ran(run) for run in found.values()):
        return None
    if row.fingerprint != fingerprint:
        raise Conflict(
            f"the idempotency key {key!r} was used for another batch: send the same items, or take another key",
            code="idempotency_conflict",
        )
    # those that ended long ago may have been removed
    return Made([found[name] for name in names if name in found], False, set())
