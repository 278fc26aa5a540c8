"""What a queue says to a new run: whether its rate lets it in, and what happens when the queue is full.

Both are decided under the lock of the queue's row, so that two triggers at once do not both find the last place.
A queue is full when as many of its runs are queued and running as may run at once; where it has a limit for each
key, a key is full in the same way. Runs that wait, are delayed or have been asked to stop do not count.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, func, or_, select

from coordinator.foundation.errors import RateLimited
from coordinator.line import queues
from coordinator.line.queues import Limits
from coordinator.runs import cancelling
from coordinator.storage.tables import IS_QUEUED, IS_RUNNING
from coordinator.storage.tables import runs as table


class Full(NamedTuple):
    """A limit that a new run finds used up: in words, and which runs use it."""

    words: str
    limit: int
    live: int
    of: ColumnElement[bool]


def check_rate(conn: Connection, now: float, limits: Limits, key: str | None) -> None:
    """Raises RateLimited where the queue refuses what is beyond its rate, and this is."""
    if not limits.refuses:
        return
    opens_at = queues.rate_opens_at(conn, now, limits, key)
    if opens_at is not None:
        of = f" for the concurrency key {key!r}" if key else ""
        raise RateLimited(
            f"the queue {limits.name!r} takes {limits.rate}{of}: the next one in {opens_at - now:.3g} s",
            opens_at - now,
        )


def full(conn: Connection, limits: Limits, key: str | None, but: str | None = None) -> list[Full]:
    """The limits of the queue that are used up, for a new run with this key; `but` is a run that does not count."""
    found = []
    of_queue = (table.c.project == limits.project) & (table.c.queue == limits.name)
    if but is not None:
        of_queue = of_queue & (table.c.id != but)
    if limits.per_key is not None and key is not None:
        of_key = of_queue & (table.c.concurrency_key == key)
        live = _count(conn, of_key)
        if live >= limits.per_key:
            found.append(
                Full(f"the concurrency key {key!r} of the queue {limits.name!r}", limits.per_key, live, of_key)
            )
    if limits.concurrency is not None:
        live = _count(conn, of_queue)
        if live >= limits.concurrency:
            found.append(Full(f"the queue {limits.name!r}", limits.concurrency, live, of_queue))
    return found


def skips(conn: Connection, limits: Limits, key: str | None, but: str | None = None) -> str | None:
    """Why a new run is skipped; None where it is not."""
    if limits.on_full != "skip":
        return None
    for found in full(conn, limits, key, but):
        return f"skipped: {found.words} is full, with {found.live} of {found.limit} runs queued or running"
    return None


def make_room(conn: Connection, now: float, limits: Limits, run: Row[Any], queued: list[Row[Any]]) -> set[str]:
    """Cancels what has to go for a run that was just queued, where the queue does so; the topics to wake.

    Parents of theirs that go on are added to `queued`.
    """
    topics: set[str] = set()
    if limits.on_full not in ("cancel_running", "keep_newest"):
        return topics
    for found in full(conn, limits, run.concurrency_key, run.id):
        states = (IS_QUEUED,) if limits.on_full == "keep_newest" else (IS_QUEUED, IS_RUNNING)
        oldest = _live(select(table.c.id), found.of, *states).order_by(table.c.id)
        for victim in list(conn.scalars(oldest.limit(found.live + 1 - found.limit))):
            why = f"canceled by the queue {limits.name!r}, which was full, for the newer run {run.id}"
            topics |= cancelling.cancel(conn, now, victim, why, queued).topics
    return topics


def _count(conn: Connection, of: ColumnElement[bool]) -> int:
    query = _live(select(func.count()).select_from(table), of, IS_QUEUED, IS_RUNNING)
    return int(conn.scalar(query) or 0)


def _live(query: Select[Any], of: ColumnElement[bool], *states: ColumnElement[bool]) -> Select[Any]:
    return query.where(or_(*states), of, table.c.cancel_requested_at.is_(None))
