"""What runners tell of their pools: the containers there are, those that have left, and how runs have begun.

A heartbeat that is said again changes nothing: what differs says since which state, a container that has left has
its name, and how runs began in a few minutes is told as the whole of those minutes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import TypeAdapter
from sqlalchemy import Connection, Row, delete, select, update

from coordinator.foundation.limits import RUNNER_ALIVE
from coordinator.storage import dialect
from coordinator.storage.tables import lives, runners, starts
from coordinator.storage.values import decode, encode_small
from coordinator.wire import Heartbeat, Life, PoolEntry, StartCount, StartSlot
from coordinator.wire.pool import START_SLOT

#: Containers of one runner that have left, of which it is kept how they did.
MOST_LIVES = 2000
#: How long it is kept how runs have begun: what is shown reaches back for a day.
STARTS_KEPT = 26 * 3600.0
#: Containers of one runner that are listed.
_MOST_CONTAINERS = 10_000

_COUNTS = TypeAdapter(list[StartCount])


class Began(NamedTuple):
    """How runs have begun in the slot that began at `at`."""

    at: float
    counts: list[StartCount]


def told(conn: Connection, now: float, runner: str, beat: Heartbeat) -> str | None:
    """Stores what a runner, whose row is there, says of its pool; the state that is known of it after that.

    None: what it says is no continuation of what is known, and it is to tell all of it.
    """
    _keep_lives(conn, now, runner, beat.left)
    _keep_starts(conn, now, runner, beat.starts)
    query = select(runners.c.pool, runners.c.pool_state).where(runners.c.name == runner).with_for_update()
    row = conn.execute(query).one()
    if beat.base is None:
        known: dict[str, Any] = {}
    elif beat.state == row.pool_state:
        return beat.state  # nothing is new, or it was told before
    elif beat.base != row.pool_state:
        return None
    else:
        known = {entry["container"]: entry for entry in decode(row.pool)}
    for name in beat.gone:
        known.pop(name, None)
    known |= {entry.container: {**entry.model_dump(), "at": now} for entry in beat.pool}
    pool = encode_small(list(known.values())[:_MOST_CONTAINERS])
    conn.execute(update(runners).where(runners.c.name == runner).values(pool=pool, pool_state=beat.state))
    return beat.state


def live(conn: Connection, now: float) -> list[Row[Any]]:
    """The live runners with their last word on their pool."""
    query = select(runners).where(runners.c.seen_at > now - RUNNER_ALIVE).order_by(runners.c.name)
    return list(conn.execute(query))


def containers(row: Row[Any], now: float, project: str | None = None) -> tuple[list[PoolEntry], int]:
    """The containers of a runner, or those of a project, with their ages by now; and the bytes of all of them."""
    found, used = [], 0
    for stored in decode(row.pool):
        entry = PoolEntry.model_validate(stored)
        used += entry.memory
        if project in (None, entry.project):
            entry.age += max(0.0, now - stored.get("at", now))
            found.append(entry)
    return found, used


def left(conn: Connection, now: float, project: str | None, most: int) -> list[Row[Any]]:
    """The containers that have left, the newest first."""
    query = select(lives).order_by(lives.c.left_at.desc(), lives.c.container).limit(most)
    if project is not None:
        query = query.where(lives.c.project == project)
    return list(conn.execute(query))


def began(conn: Connection, now: float) -> list[Began]:
    """How runs have begun in the last day, on all runners."""
    query = select(starts.c.at, starts.c.counts).where(starts.c.at > now - 86400 - START_SLOT)
    return [Began(row.at, _COUNTS.validate_json(row.counts)) for row in conn.execute(query)]


def _keep_lives(conn: Connection, now: float, runner: str, told: list[Life]) -> None:
    if not told:
        return
    values = [
        {
            "container": life.container,
            "runner": runner,
            "project": life.project,
            "image": life.image,
            "memory": life.memory,
            "why": life.why,
            "by_project": None if life.by is None else life.by.project,
            "by_task": None if life.by is None else life.by.task,
            "began_at": now - life.ago - life.lived,
            "left_at": now - life.ago,
            "runs": life.runs,
            "task": life.task,
            "worth": life.worth,
            "memory_runs": encode_small([sample.model_dump() for sample in life.memory_runs]),
        }
        for life in told
    ]
    conn.execute(dialect.insert(conn.dialect.name, lives).on_conflict_do_nothing(), values)
    of_runner = lives.c.runner == runner
    oldest = select(lives.c.left_at).where(of_runner).order_by(lives.c.left_at.desc()).offset(MOST_LIVES).limit(1)
    conn.execute(delete(lives).where(of_runner, lives.c.left_at <= oldest.scalar_subquery()))


def _keep_starts(conn: Connection, now: float, runner: str, told: list[StartSlot]) -> None:
    for slot in told:
        counts = encode_small([count.model_dump() for count in slot.counts])
        values = {"runner": runner, "slot": slot.slot, "at": now - slot.ago, "counts": counts}
        statement = dialect.insert(conn.dialect.name, starts).values(**values)
        conn.execute(statement.on_conflict_do_update(index_elements=["runner", "slot"], set_={"counts": counts}))
