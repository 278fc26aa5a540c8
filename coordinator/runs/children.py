"""Child runs: triggered by a run, once for each place in it where it does so, however often it comes there.

A child belongs to its parent's project and version. It is made in the transaction that stores the parent's wait for
it, so that a run that comes to the same place again finds the children that are there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Row, func, select

from coordinator.access import leases
from coordinator.foundation.errors import Conflict, Invalid, NotFound, Refused, TooLarge, invalid_field
from coordinator.foundation.limits import MAX_CHILDREN, MAX_RUN_DEPTH
from coordinator.runs import batches, plans, targets, triggers
from coordinator.runs.plans import Family, Plan
from coordinator.storage.tables import attempts, runs
from coordinator.storage.tables import waits as table
from coordinator.storage.values import Encoded, Stored, decode, encode_small
from coordinator.tasks.payloads import Payloads
from coordinator.waits import waits
from coordinator.waits.waits import Called
from coordinator.wire import FINAL, BatchRequest, FieldProblem, TriggerRequest, WaitCall

KINDS = frozenset({"trigger", "run", "batch_trigger", "batch"})
_AWAITED = frozenset({"run", "batch"})


@dataclass(frozen=True)
class Planned:
    """Children that are ready to be made: plans, or runs that their own idempotency keys have made before."""

    items: list[Plan | Row[Any]]

    @property
    def payloads(self) -> list[Encoded]:
        return [item.payload for item in self.items if isinstance(item, Plan) and item.payload is not None]


def plan(conn: Connection, now: float, attempt_id: str, body: WaitCall, payloads: Payloads) -> Planned | None:
    """What to make; None where there is nothing to make, because the run has the wait already or names a child.

    Raises Invalid (with every wrong field; `unknown_task`, `too_deep`), TooLarge, StaleAttempt, Conflict.
    """
    run = conn.execute(
        select(runs).join_from(attempts, runs, runs.c.id == attempts.c.run_id).where(attempts.c.id == attempt_id)
    ).one_or_none()
    if run is None:
        raise leases.stale(attempt_id)
    known = waits.find(conn, run.id, body)
    if known is not None and body.kind in ("batch_trigger", "batch"):
        _same_size(body, len(decode(known.runs)))
    if known is not None or "run" in body.spec:
        return None
    if run.depth >= MAX_RUN_DEPTH:
        raise Invalid(
            f"there are {run.depth} runs above this one, which is the limit: a task that triggers itself must end",
            code="too_deep",
        )
    if body.name is None:
        raise invalid_field("name", "missing: the task to trigger")
    if "/" in body.name:  # no task has one, and what is near to it may be another project's
        raise Invalid(f"there is no task {body.name!r} in the project {run.project}", code="unknown_task")
    name = f"{run.project}/{body.name}"
    try:
        if body.kind in ("trigger", "run"):
            request = _parse(TriggerRequest, {**_options(body), "payload": body.spec.get("payload", {})})
            _check(body.kind, request, "")
            target = targets.resolve(conn, name, request.version or run.version)
            items = [plans.plan(conn, now, name, request, payloads, target)]
        else:
            batch = _parse(BatchRequest, {"items": body.spec.get("items")})
            for n, item in enumerate(batch.items):
                _check(body.kind, item, f"items[{n}].")
                item.version = item.version or run.version
            items = batches.plan(conn, now, name, batch, payloads, run.version).items  # type: ignore[union-attr]
    except NotFound as error:
        # to the sidecar "not found" would say that the attempt is gone
        raise Invalid(error.message, code=error.code, fields=error.fields) from None
    detached = body.spec.get("detached") is True and body.kind not in _AWAITED
    family = Family(run.id, body.key, run.root or run.id, run.depth + 1, run.trace_id, detached)
    origin = plans.Origin("run", run.id)
    return Planned(
        [replace(item, family=family, origin=origin) if isinstance(item, Plan) else item for item in items]
    )


def call(
    conn: Connection,
    now: float,
    attempt_id: str,
    body: WaitCall,
    planned: Planned | None = None,
    payloads: list[Stored] | None = None,
) -> Called:
    """As `waits.call`, for children: they are made together with the wait. `payloads` are those of the plans.

    Raises as `triggers.create_all`, with the item named where there are several; and then nothing is made.
    """
    if planned is None:
        if "run" in body.spec:
            return waits.call(conn, now, attempt_id, body, of=lambda run: _of_child(conn, run, body))
        return Called(_known(conn, now, attempt_id, body), set())
    wanted = [item for item in planned.items if isinstance(item, Plan)]
    # queues are locked before runs
    triggers.lock_queues(conn, wanted)
    run = waits.open_run(conn, now, attempt_id, body.token)
    row = waits.find(conn, run.id, body)
    if row is not None:
        return Called(row, set())
    count = int(conn.scalar(select(func.count()).select_from(runs).where(runs.c.parent == run.id)) or 0)
    if count + len(wanted) > MAX_CHILDREN:
        raise TooLarge(
            f"wait {body.key!r}: the run would have {count + len(wanted)} children, more than the limit of "
            f"{MAX_CHILDREN}; let some of them trigger the others"
        )
    places = [n for n, item in enumerate(planned.items) if isinstance(item, Plan)]
    try:
        made = triggers.create_all(conn, now, list(zip(wanted, payloads or [], strict=True))) if wanted else []
    except Refused as error:
        raise (
            error if body.kind in ("trigger", "run") else batches.of_item(places[error.item or 0], error)
        ) from None
    new = iter(made)
    children = [next(new).run if isinstance(item, Plan) else item for item in planned.items]
    over = body.kind not in _AWAITED or all(child.status in FINAL for child in children)
    names = encode_small([child.id for child in children])
    state = {"status": "done", "resolved_at": now} if over else {}
    row = waits.add(conn, now, run, body, runs=names, **state)
    return Called(row, set().union(*(m.topics for m in made)))


def ends(conn: Connection, now: float, names: list[str]) -> list[Any]:
    """Of runs: id, status, result and error, in the order of the names."""
    query = select(runs.c.id, runs.c.status, runs.c.result, runs.c.result_blob, runs.c.error)
    found: dict[str, Any] = {row.id: row for row in conn.execute(query.where(runs.c.id.in_(names)))}
    if missing := [name for name in names if name not in found]:
        raise Conflict(f"the run {missing[0]} is not there any more", code="forgotten")
    return [found[name] for name in names]


def stored(conn: Connection, now: float, attempt_id: str, token: int, key: str) -> Row[Any]:
    """The wait of a key of the attempt's run. Raises StaleAttempt, Invalid."""
    held = leases.require(conn, now, attempt_id, token)
    row = conn.execute(select(table).where(table.c.run_id == held.run_id, table.c.key == key)).one_or_none()
    if row is None or row.status != "done" or row.runs is None:
        raise Invalid(f"key: the run has no children that have ended under {key!r}")
    return row


def _known(conn: Connection, now: float, attempt_id: str, body: WaitCall) -> Row[Any]:
    run = waits.open_run(conn, now, attempt_id, body.token)
    row = waits.find(conn, run.id, body)
    if row is None:
        raise Conflict(f"the wait {body.key!r} is not there any more", code="forgotten")
    return row


def _of_child(conn: Connection, run: Row[Any], body: WaitCall) -> dict[str, Any]:
    """What is stored of a wait for a child that was triggered before."""
    child = conn.execute(
        select(runs.c.status, runs.c.parent).where(runs.c.id == body.spec["run"]).with_for_update()
    ).one_or_none()
    if child is None or child.parent != run.id:
        raise invalid_field(
            "run", f"{body.spec['run']!r} is no run that this one has triggered, so it can't be waited for"
        )
    over = {"status": "done"} if child.status in FINAL else {}
    return {"runs": encode_small([body.spec["run"]]), **over}


def _same_size(body: WaitCall, count: int) -> None:
    items = body.spec.get("items")
    asked = len(items) if isinstance(items, list) else 0
    if asked != count:
        words = waits.describe(body.kind, body.name)
        raise waits.mixed(body.key, f"{words} with {count} items", f"one with {asked}")


def _options(body: WaitCall) -> dict[str, Any]:
    options = body.spec.get("options") or {}
    if not isinstance(options, dict):
        raise invalid_field("options", "not an object")
    return options


def _check(kind: str, request: TriggerRequest, path: str) -> None:
    """A child that is waited for is known by its place in the run, and is this run's own."""
    for name in ("idempotency_key", "debounce"):
        if kind in _AWAITED and getattr(request, name) is not None:
            raise invalid_field(
                f"{path}{name}",
                "not for a run that is waited for: it is known by its key, and made once in any case",
            )


def _parse(model: Any, value: dict[str, Any]) -> Any:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = [
            FieldProblem(
                path=".".join(str(part) for part in e["loc"]), message=e["msg"].removeprefix("Value error, ")
            )
            for e in error.errors()[:50]
        ]
        raise Invalid("; ".join(f"{p.path}: {p.message}" for p in problems), fields=problems) from None
