"""Schedules: ticks that are due become runs, each once, whichever coordinator is first."""

from __future__ import annotations

from typing import NamedTuple

import structlog
from sqlalchemy import Connection

from coordinator.sources import schedules
from coordinator.tasks.payloads import Payloads

log = structlog.get_logger()


class Fired(NamedTuple):
    """The ticks that were fired, topics to wake, and in how many seconds the next is due (0: there is more now)."""

    ticks: list[schedules.Tick]
    topics: set[str]
    next_due: float | None


def run_once(conn: Connection, now: float, payloads: Payloads) -> Fired:
    """Fires what is due of one schedule."""
    fired = schedules.fire_next(conn, now, payloads)
    for tick in fired or []:
        if tick.problem is not None:
            log.warning("a tick has no run", schedule=tick.schedule, at=tick.at, problem=tick.problem)
    topics: set[str] = set().union(*(tick.topics for tick in fired or []))
    next_at = schedules.next_due(conn)
    if next_at is None:
        return Fired(fired or [], topics, None)
    if fired is None:
        # what is due all the same is another coordinator's just now: not to be asked for without a pause
        return Fired([], topics, next_at - now if next_at > now else None)
    return Fired(fired, topics, max(0.0, next_at - now))
