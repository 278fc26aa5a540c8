"""All runners that live, and what each of them has free: read in one statement."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, bindparam, func, select

from coordinator.attempts import runners as known
from coordinator.attempts.room import DEPLOYED, Held, Room
from coordinator.foundation.limits import RUNNER_ALIVE
from coordinator.storage.prepared import Prepared
from coordinator.storage.tables import IS_LIVE, attempts, runners, runs

_HELD = (
    select(attempts.c.runner, runs.c.project, func.sum(attempts.c.memory).label("held"), func.count().label("runs"))
    .join_from(attempts, runs, attempts.c.run_id == runs.c.id)
    .where(IS_LIVE)
    .group_by(attempts.c.runner, runs.c.project)
    .subquery()
)
_READ = Prepared(
    select(
        runners.c.name,
        runners.c.memory,
        runners.c.slots,
        runners.c.task_memory,
        runners.c.shares,
        _HELD.c.project,
        _HELD.c.held,
        _HELD.c.runs,
        select(func.count()).select_from(DEPLOYED.subquery()).scalar_subquery().label("projects"),
    )
    .outerjoin_from(runners, _HELD, _HELD.c.runner == runners.c.name)
    .where(runners.c.seen_at > bindparam("alive"))
)

Obstacle = Literal["no_runner", "memory", "share"]


class Host(NamedTuple):
    """`memory` and `task_memory` (the most for one task): bytes that it gives in all."""

    memory: int
    task_memory: int | None
    room: Room


class Fleet(NamedTuple):
    """Its hosts at one moment."""

    hosts: list[Host]

    @property
    def largest(self) -> int | None:
        """The most bytes that one task may have; None where nobody says."""
        return max((host.task_memory for host in self.hosts if host.task_memory is not None), default=None)

    @property
    def free(self) -> int:
        """The most bytes that are free on a host with a slot free."""
        return max((host.room.memory for host in self.hosts if host.room.slots > 0), default=0)

    def shared(self, project: str) -> int:
        """The most bytes that a project may still take of such a host."""
        return max((host.room.of(project) for host in self.hosts if host.room.slots > 0), default=0)

    def obstacle(self, project: str, memory: int) -> Obstacle | None:
        """Why a run of `project` that asks for `memory` bytes can start nowhere now; None where it can."""
        if not self.hosts:
            return "no_runner"
        if self.free < memory or (self.largest is not None and self.largest < memory):
            return "memory"
        return "share" if self.shared(project) < memory else None


def read(conn: Connection, now: float) -> Fleet:
    rows: dict[str, list[Any]] = {}
    row: Any
    for row in conn.execute(_READ, {"alive": now - RUNNER_ALIVE}):
        rows.setdefault(row.name, []).append(row)
    return Fleet([_host(of) for of in rows.values()])


def _host(rows: list[Any]) -> Host:
    first = rows[0]
    held = {row.project: Held(int(row.held), row.runs) for row in rows if row.project is not None}
    shares = known.shares(first.shares, first.memory, first.slots)
    return Host(first.memory, first.task_memory, Room(first.memory, first.slots, held, first.projects > 1, shares))
