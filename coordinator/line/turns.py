"""Turns among projects: a claim serves the project that was served longest ago, and then looks into its queues.

So neither a queue, a concurrency key nor a priority of one project has any weight in another: what floods its own
lanes is started as often as every other project that waits, and no more.

The row is a hint, like a lane's: written last in a claim's transaction, after the lanes, in the order of the names.
"""

from __future__ import annotations

from functools import cache

from sqlalchemy import Connection, case, select

from coordinator.line.lanes import STEP
from coordinator.storage import dialect
from coordinator.storage.prepared import Prepared
from coordinator.storage.tables import turns

_KNOWN = Prepared(select(turns.c.project, turns.c.served_at))


def known(conn: Connection) -> dict[str, float]:
    """When each project was served last; one that is not there never was."""
    return {row.project: row.served_at for row in conn.execute(_KNOWN)}


def after(now: float, served_at: float) -> float:
    """When a project counts as served that was served once more now."""
    return max(now, served_at + STEP)


@cache
def _serve(dialect_name: str) -> Prepared:
    statement = dialect.insert(dialect_name, turns)
    later = statement.excluded.served_at
    newer = case((turns.c.served_at > later, turns.c.served_at), else_=later)
    served = statement.on_conflict_do_update(index_elements=[turns.c.project], set_={"served_at": newer})
    return Prepared(served)


def settle(conn: Connection, served: dict[str, float]) -> None:
    """Writes down when the projects that a claim served count as served."""
    for project in sorted(served):
        values = {"project": project, "served_at": served[project]}
        conn.execute(_serve(conn.dialect.name), values)
