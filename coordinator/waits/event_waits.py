"""Waits for events: what has arrived before the wait, and what a new event resolves.

A wait sees the events that came since its run was made, and each event is taken by one wait of a run at most. No
event falls between the two: whoever stores a wait and whoever sends an event of that name hold
`dialect.lock_event`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select

from coordinator.foundation.errors import Invalid, invalid_field
from coordinator.storage import dialect
from coordinator.storage.tables import IS_PENDING, events, runs
from coordinator.storage.tables import waits as table
from coordinator.storage.values import Stored, decode, encode_small
from coordinator.tasks import where
from coordinator.waits import waits
from coordinator.waits.waits import Called
from coordinator.wire import Json, WaitCall

#: The project of an event that concerns all of them.
EVERYWHERE = ""
_BATCH = 500


def call(conn: Connection, now: float, attempt_id: str, body: WaitCall) -> Called:
    """As `waits.call`, for an event. Raises Invalid (`bad_filter`) too."""
    if body.name is None:
        raise invalid_field("name", "missing: the event to wait for")
    wanted: Any = body.spec.get("where")
    if wanted is not None and (problems := where.problems(wanted)):
        listing = "; ".join(f"{problem.path}: {problem.message}" for problem in problems)
        raise Invalid(listing, code="bad_filter", fields=problems)
    dialect.lock_event(conn, body.name, sending=False)
    filtered = {} if wanted is None else {"filter": encode_small(wanted)}
    return waits.call(
        conn, now, attempt_id, body, of=lambda run: {**filtered, **_taken(conn, run, str(body.name), wanted)}
    )


def arrived(conn: Connection, project: str, name: str, since: float) -> list[Row[Any]]:
    """The events of this name that concern a project and came at `since` or later, oldest first.

    A wait that looks here before it is stored misses none that is sent meanwhile, if it holds
    `dialect.lock_event(conn, name, sending=False)`.
    """
    query = select(events).where(
        events.c.name == name, events.c.project.in_((EVERYWHERE, project)), events.c.created_at >= since
    )
    return list(conn.execute(query.order_by(events.c.created_at, events.c.key)))


def deliver(conn: Connection, now: float, event: Row[Any], payload: Json, queued: list[Row[Any]]) -> set[str]:
    """Resolves the waits that an event fits: in each run one at most, the first that it came to."""
    query = (
        select(table.c.run_id, table.c.key, table.c.filter)
        .join_from(table, runs, runs.c.id == table.c.run_id)
        .where(IS_PENDING, table.c.kind == "event", table.c.name == event.name)
        .order_by(table.c.run_id, table.c.position)
    )
    if event.project != EVERYWHERE:
        query = query.where(runs.c.project == event.project)
    fitting: dict[str, str] = {}
    for row in conn.execute(query):
        if row.run_id not in fitting and where.matches(decode(row.filter), payload):
            fitting[row.run_id] = row.key
    topics: set[str] = set()
    names = list(fitting)
    for first in range(0, len(names), _BATCH):
        chunk = names[first : first + _BATCH]
        locked = select(runs.c.id).where(runs.c.id.in_(chunk)).order_by(runs.c.id).with_for_update()
        pairs = [(run, fitting[run]) for run in conn.scalars(locked)]
        value = Stored(event.payload, None, len(event.payload.encode()))
        topics |= waits.resolve(conn, now, pairs, "done", queued, value, event.key)
    return topics


def _taken(conn: Connection, run: Row[Any], name: str, wanted: Any) -> dict[str, Any]:
    """A wait that takes the first event since the run was made that fits and that no other wait of it has taken."""
    query = select(table.c.event).where(table.c.run_id == run.id, table.c.event.is_not(None))
    others = set(conn.scalars(query))
    for event in arrived(conn, run.project, name, run.created_at):
        if event.key not in others and where.matches(wanted, decode(event.payload)):
            return {
                "status": "done",
                "resolved_at": event.created_at,
                "value": event.payload,
                "size": len(event.payload.encode()),
                "event": event.key,
            }
    return {}
