"""Deliveries: what came in at webhooks, kept as it came, and the run that each has become.

A delivery and its run are made in one transaction, before it is answered. Its sender's id for it makes it one
however often it comes. What can't become a run (the task is gone, the payload does not fit) is kept as `dead`, and
can be replayed when that has been put right. A sender that delivers again what is dead, or whose run ended without
having been started, gets the run that it is owed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, select, update

from coordinator.access.signatures import SIGNATURE_HEADERS, Verified
from coordinator.foundation import again, ids
from coordinator.foundation.errors import Conflict, NotFound, RateLimited, Refused
from coordinator.runs import idempotency, targets
from coordinator.runs.plans import Origin, Plan, plan
from coordinator.runs.triggers import create
from coordinator.sources import bodies
from coordinator.sources.webhooks import Webhook, find
from coordinator.storage import dialect, quota
from coordinator.storage.tables import deliveries, runs
from coordinator.storage.values import Stored, decode, encode_small
from coordinator.tasks import arguments
from coordinator.tasks.payloads import Payloads
from coordinator.wire import TriggerRequest

#: Headers that are nobody's business but the coordinator's.
_PRIVATE = frozenset({"authorization", "proxy-authorization", "cookie"})


class Received(NamedTuple):
    """A delivery as it came, after its signature was checked. `headers` are those that may be kept."""

    webhook: Webhook
    verified: Verified
    headers: dict[str, str]
    body: bytes
    query: dict[str, Any] = {}  # noqa: RUF012 - never changed


class Body(NamedTuple):
    """Where the bytes of a delivery are: in the row, or in a blob by name."""

    data: bytes | None
    blob: str | None


class Accepted(NamedTuple):
    """A delivery, whether it came now for the first time or is owed its run, and topics to wake."""

    row: Row[Any]
    created: bool
    topics: set[str]


class Planned(NamedTuple):
    """The run that a delivery is to become, or why it can't."""

    id: str
    plan: Plan | None
    problem: str | None


def kept_headers(headers: list[tuple[bytes, bytes]], *, signed: bool) -> dict[str, str]:
    """Headers by their names in lower case, without what would give something away; repeated ones are joined."""
    found: dict[str, str] = {}
    for raw, value in headers:
        name = raw.decode("latin-1").lower()
        if name in _PRIVATE or (signed and name in SIGNATURE_HEADERS):
            continue
        text = value.decode("latin-1").replace("\0", "")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def prepare(conn: Connection, now: float, received: Received, payloads: Payloads) -> Planned | Row[Any]:
    """What is to become of a delivery; the row of one that has come before and has its run."""
    webhook = received.webhook
    known = _known(conn, received)
    if known is not None and not _owed(conn, known):
        return known
    delivery = again.same("delivery", ids.delivery) if known is None else known.id
    if not webhook.current:
        problem = (
            f"the current deployment of {webhook.project} has no webhook {webhook.path!r}: deploy it and replay"
        )
        return Planned(delivery, None, problem)
    try:
        return Planned(delivery, _plan(conn, now, received, delivery, payloads), None)
    except Refused as error:
        return Planned(delivery, None, error.message)


def accept(
    conn: Connection, now: float, received: Received, planned: Planned, payload: Stored, body: Body
) -> Accepted:
    """Keeps a delivery and makes its run. Raises RateLimited, TooMuch: then nothing is kept."""
    webhook, verified = received.webhook, received.verified
    row = conn.execute(
        dialect.insert(conn.dialect.name, deliveries)
        .values(
            id=planned.id,
            project=webhook.project,
            path=webhook.path,
            task=webhook.task,
            sender_id=verified.sender_id or planned.id,
            scheme=verified.scheme,
            status="dead",
            problem=planned.problem,
            headers=encode_small(received.headers),
            body=body.data,
            body_blob=body.blob,
            size=len(received.body),
            received_at=now,
            replays=0,
            query=encode_small(received.query) if received.query else None,
        )
        .on_conflict_do_nothing()
        .returning(deliveries.c.id)
    ).one_or_none()
    topics: set[str] = set()
    values: dict[str, Any] = {}
    if row is not None:
        quota.check_bytes(conn, now, webhook.project, len(received.body) + len(encode_small(received.headers)))
    else:
        known = _known(conn, received, lock=True)
        assert known is not None  # it was committed by whoever was faster
        if not _owed(conn, known):
            return Accepted(known, False, set())
        values = {"headers": encode_small(received.headers), "body": body.data, "body_blob": body.blob}
        values["query"] = encode_small(received.query) if received.query else None
        values |= {"task": webhook.task, "size": len(received.body), "status": "dead", "problem": planned.problem}
        plan = planned.plan and replace(planned.plan, origin=Origin("webhook", known.id))
        planned = Planned(known.id, plan, planned.problem)
    if planned.plan is not None:
        try:
            with conn.begin_nested():
                made = create(conn, now, planned.plan, payload)
            topics = made.topics
            values |= {"status": "delivered", "problem": None, "run_id": made.run.id}
        except RateLimited:
            raise
        except Refused as error:
            values |= {"problem": error.message, "run_id": None}
    if values:
        conn.execute(update(deliveries).where(deliveries.c.id == planned.id).values(**values))
    return Accepted(get(conn, now, planned.id), True, topics)


# ---------------------------------------------------------------- again


def prepare_replay(conn: Connection, now: float, delivery: str, body: bytes, payloads: Payloads) -> Plan:
    """The run of a delivery that came earlier, on the current deployment. Raises NotFound, Conflict, Invalid."""
    row = get(conn, now, delivery)
    try:
        webhook = find(conn, now, row.project, row.path)
    except NotFound:
        webhook = None
    if webhook is None or not webhook.current:
        raise Conflict(
            f"the current deployment of {row.project} has no webhook {row.path!r}: deploy it, and replay then",
            code="webhook_gone",
        )
    verified = Verified(row.scheme, row.sender_id)
    received = Received(webhook, verified, decode(row.headers), body, decode(row.query) or {})
    return _plan(conn, now, received, delivery, payloads)


def replay(conn: Connection, now: float, delivery: str, planned: Plan, payload: Stored) -> Accepted:
    """A new run of a delivery."""
    row = conn.execute(select(deliveries).where(deliveries.c.id == delivery).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"there is no delivery {delivery!r}")
    made = create(conn, now, planned, payload)
    values = {"status": "delivered", "problem": None, "run_id": made.run.id, "task": planned.target.task}
    conn.execute(update(deliveries).where(deliveries.c.id == delivery).values(replays=row.replays + 1, **values))
    return Accepted(get(conn, now, delivery), True, made.topics)


# ---------------------------------------------------------------- for people


def get(conn: Connection, now: float, delivery: str) -> Row[Any]:
    """Raises NotFound."""
    row = conn.execute(select(deliveries).where(deliveries.c.id == delivery)).one_or_none()
    if row is None:
        raise NotFound(f"there is no delivery {delivery!r}")
    return row


class Filter(NamedTuple):
    project: str | None = None
    webhook: str | None = None
    status: str | None = None
    cursor: str | None = None
    limit: int = 50


def listing(conn: Connection, now: float, wanted: Filter) -> tuple[list[Row[Any]], str | None]:
    """The newest first (their bodies are not read), and the cursor of the next page."""
    columns = [column for column in deliveries.c if column.name not in ("body", "headers")]
    query = select(*columns).order_by(deliveries.c.id.desc()).limit(wanted.limit + 1)
    for column, value in (
        (deliveries.c.project, wanted.project),
        (deliveries.c.path, wanted.webhook),
        (deliveries.c.status, wanted.status),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.cursor is not None:
        query = query.where(deliveries.c.id < wanted.cursor)
    rows: list[Row[Any]] = list(conn.execute(query))
    more, rows = len(rows) > wanted.limit, rows[: wanted.limit]
    return rows, rows[-1].id if more else None


# ---------------------------------------------------------------- inside


def _known(conn: Connection, received: Received, *, lock: bool = False) -> Row[Any] | None:
    if received.verified.sender_id is None:
        return None
    query = select(deliveries).where(
        deliveries.c.project == received.webhook.project,
        deliveries.c.path == received.webhook.path,
        deliveries.c.sender_id == received.verified.sender_id,
    )
    return conn.execute(query.with_for_update() if lock else query).one_or_none()


def _owed(conn: Connection, row: Row[Any]) -> bool:
    """Whether a delivery that comes again has yet to get a run that runs."""
    if row.status == "dead" or row.run_id is None:
        return True
    run = conn.execute(select(runs).where(runs.c.id == row.run_id)).one_or_none()
    # one that was removed is old, and has had its time
    return run is not None and idempotency.never_ran(run)


def _plan(conn: Connection, now: float, received: Received, delivery: str, payloads: Payloads) -> Plan:
    name = f"{received.webhook.project}/{received.webhook.task}"
    target = targets.resolve(conn, name)
    values = {
        "payload": bodies.value(received.headers, received.body, received.verified.scheme),
        "headers": received.headers,
        "delivery_id": received.verified.sender_id or delivery,
        "query": received.query,
    }
    body = TriggerRequest(payload=arguments.declared(decode(target.schema), values))
    planned = plan(conn, now, name, body, payloads, target, Origin("webhook", delivery))
    assert isinstance(planned, Plan)  # without an idempotency key there is no earlier run
    return planned
