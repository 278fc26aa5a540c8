"""What a project may still take of a runner's host: its share of it, once more than one project is deployed."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select

from coordinator.storage.prepared import Prepared
from coordinator.storage.tables import IS_LIVE, attempts, projects, runs
from coordinator.wire import Share, Shares

_HELD = Prepared(
    select(runs.c.project, func.sum(attempts.c.memory).label("memory"), func.count().label("slots"))
    .join_from(attempts, runs, attempts.c.run_id == runs.c.id)
    .where(attempts.c.runner == bindparam("runner"), IS_LIVE)
    .group_by(runs.c.project)
)
#: Two projects, where there are more than one.
DEPLOYED = select(projects.c.name).where(projects.c.current_deployment.is_not(None)).limit(2)
_SEVERAL = Prepared(DEPLOYED)


@dataclass
class Held:
    """What live attempts have of the host."""

    memory: int = 0
    slots: int = 0


class Room:
    """What is free on the host of a claim, in all and for each project. Derived from the rows of live attempts."""

    def __init__(self, memory: int, slots: int, held: dict[str, Held], shared: bool, shares: Shares) -> None:
        """What is left of `memory` bytes and `slots` runs, which the host gives in all, beside what is `held` by
        project. `shared`: whether more than one project is there.
        """
        self._whole = memory
        self._shares = shares
        self._held = held
        self.memory = memory - sum(one.memory for one in held.values())
        self.slots = slots - sum(one.slots for one in held.values())
        #: Nobody is held to a share on a host that nobody else uses.
        self._shared = shared

    @classmethod
    def read(cls, conn: Connection, runner: str, memory: int, slots: int, shares: Shares) -> Room:
        """Of one runner, which gives so much in all."""
        rows = conn.execute(_HELD, {"runner": runner})
        held = {row.project: Held(int(row.memory), row.slots) for row in rows}
        return cls(memory, slots, held, len(conn.execute(_SEVERAL).all()) > 1, shares)

    def of(self, project: str) -> int:
        """Bytes that a project may take now; 0 where it has its share of the slots.

        A project that holds nothing here may take one run of any size: what no host could start is refused when it
        is deployed, and not by a share.
        """
        held = self._held.get(project)
        if not self._shared or held is None:
            return self.memory
        share = self._share(project)
        if held.slots >= share.slots:
            return 0
        return max(0, min(self.memory, share.memory - held.memory))

    def keeps_for(self, project: str, memory: int) -> bool:
        """Whether what comes free may be kept for a run that waits for `memory`.

        Not where its own project's runs are what it waits for: others would wait for them too.
        """
        held = self._held.get(project)
        if not self._shared or held is None:
            return memory <= self._whole
        return held.memory + memory <= self._share(project).memory

    def take(self, project: str, memory: int) -> None:
        """Counts a run that was taken."""
        held = self._held.setdefault(project, Held())
        held.memory += memory
        held.slots += 1
        self.memory -= memory
        self.slots -= 1

    def _share(self, project: str) -> Share:
        return self._shares.projects.get(project, self._shares.usual)
