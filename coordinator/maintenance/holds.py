"""The duty `holds`: what stands in the way of runs in line, looked at by scope and not by run."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, select, tuple_, union

from coordinator.attempts import fleet
from coordinator.context import Coordinator
from coordinator.line import holds, queues
from coordinator.line.holds import Scope
from coordinator.maintenance.duty import Round
from coordinator.storage.tables import IS_MISSING, IS_QUEUED, IS_RUNNING, deployments, lanes, runs
from coordinator.storage.tables import queues as table

#: Kinds of runs (queue and memory), and keys, that one look takes in; others are not seen. To find keys that runs
#: wait for, so many lanes are looked at.
_KINDS, _KEYS, _LANES = 1000, 500, 5000


def _kinds(stands: str) -> Select[Any]:
    """Queue and memory of lanes whose column `stands` is not null, with a run in one of them: a lane is a hint, and
    of one that nobody passes the runs may be gone.
    """
    kinds = select(lanes.c.project, lanes.c.queue, lanes.c.memory).where(lanes.c[stands].is_not(None)).distinct()
    kind, own = kinds.limit(_KINDS).subquery(), lanes.alias()
    # from the lanes to their runs: the other way round every run in line would be looked at for each kind
    queued = select(runs.c.id).where(IS_QUEUED, runs.c.lane == own.c.id).exists()
    there = select(own.c.id).where(
        own.c.project == kind.c.project,
        own.c.queue == kind.c.queue,
        own.c.memory == kind.c.memory,
        own.c[stands].is_not(None),
        queued,
    )
    return select(kind).where(there.exists())


_WAITING = union(_kinds("rank"), _kinds("opens_at"))
_RUNNING = (
    select(runs.c.project, runs.c.queue, func.count()).where(IS_RUNNING).group_by(runs.c.project, runs.c.queue)
)
_LIMITED = select(table).where(tuple_(table.c.project, table.c.name).in_(bindparam("names", expanding=True)))
#: Keys that are at their limit.
_FULL_KEYS = (
    select(runs.c.project, runs.c.queue, runs.c.concurrency_key)
    .join(table, (table.c.project == runs.c.project) & (table.c.name == runs.c.queue))
    .where(IS_RUNNING, table.c.per_key.is_not(None), runs.c.concurrency_key.is_not(None))
    .group_by(runs.c.project, runs.c.queue, runs.c.concurrency_key, table.c.per_key)
    .having(func.count() >= table.c.per_key)
)
#: Keys that runs wait for, by the index of turns: those first that have waited longest.
_KEYS_WAITING = (
    select(lanes.c.project, lanes.c.queue, lanes.c.key)
    .where(
        lanes.c.rank.is_not(None),
        tuple_(lanes.c.project, lanes.c.queue).in_(bindparam("names", expanding=True)),
    )
    .order_by(lanes.c.project, lanes.c.queue, lanes.c.rank)
    .limit(_LANES)
)
_CLOSED = (
    select(lanes.c.project, lanes.c.queue, lanes.c.key).where(lanes.c.opens_at > bindparam("now")).limit(_KEYS)
)
_PARKED = select(deployments.c.id).where(IS_MISSING).limit(_KEYS)


async def run_round(core: Coordinator, up: float) -> Round:
    seen = await core.database.read(look, core.settings.max_running)
    if seen:
        await core.database.write(holds.record, seen)
    return Round()


def look(conn: Connection, now: float, max_running: int | None = None) -> dict[str, str]:
    """What holds whom at this moment: reasons by scope, of those for whom runs wait. As `why` would say it."""
    waiting = list(conn.execute(_WAITING))
    if not waiting:
        return {}
    seen = {Scope.image(deployment): "image" for deployment in conn.scalars(_PARKED)}
    names = sorted({(kind.project, kind.queue) for kind in waiting})
    limits = {(row.project, row.name): queues.read(row) for row in conn.execute(_LIMITED, {"names": names})}
    running: dict[Any, int] = {(row[0], row[1]): row[2] for row in conn.execute(_RUNNING)}
    stopped = set()
    for name, one in limits.items():
        if one.paused:
            seen[Scope.queue(*name)] = "paused"
        elif one.concurrency is not None and running.get(name, 0) >= one.concurrency:
            seen[Scope.queue(*name)] = "queue_limit"
        else:
            continue
        stopped.add(name)
    keyed = [name for name, one in limits.items() if one.per_key is not None and name not in stopped]
    if keyed and (full := {tuple(row) for row in conn.execute(_FULL_KEYS)}):
        wanted = {tuple(row) for row in conn.execute(_KEYS_WAITING, {"names": keyed})} & full
        for row in sorted(wanted)[:_KEYS]:
            seen[Scope.key(*row)] = "key_limit"
    if any(one.throttles for one in limits.values()):
        for row in conn.execute(_CLOSED, {"now": now}):
            # (a lane is closed for want of an image as well)
            if (own := limits.get((row.project, row.queue))) is not None and own.throttles:
                seen.setdefault(Scope.key(*row), "rate")
    free = [kind for kind in waiting if (kind.project, kind.queue) not in stopped]
    if free and max_running is not None and sum(running.values()) >= max_running:
        seen[Scope.everything()] = "global_limit"
    elif free:
        hosts = fleet.read(conn, now)
        for kind in free:
            seen[Scope.fleet(kind.project, kind.memory)] = hosts.obstacle(kind.project, kind.memory) or "turn"
    return seen
