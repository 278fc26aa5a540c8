"""Room: one ledger of the memory of all containers, and who leaves for a run that needs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from coordinator.keeping.warm import WarmSet
from coordinator.wire import Leaving, Whose
from runner.container import Container


class Room:
    """A container counts from its entry to its removal, whatever its state."""

    def __init__(
        self,
        memory: int,
        containers: Mapping[str, Container],
        warm: WarmSet,
        destroy: Callable[[Container, Leaving, Whose | None], None],
    ) -> None:
        self._memory = memory
        self._containers = containers
        self._warm = warm
        self._destroy = destroy
        #: Bytes set aside for builds. New starts keep clear of them; what runs already is left alone.
        self.reserved = 0

    @property
    def used(self) -> int:
        """Bytes that all containers together may take, and builds."""
        return self.reserved + sum(c.key.memory for c in self._containers.values())

    def fits(self, memory: int) -> bool:
        return self.used + memory <= self._memory

    def make(self, memory: int, by: Whose) -> bool:
        """Whether `memory` fits now; where it does not, sends idle containers away so that it will.

        What has never been used is given up first.
        """
        if self.fits(memory):
            return True
        for container in list(self._containers.values()):
            if container.unused and container.state == "starting":
                self._destroy(container, "evicted", by)  # nobody waits for it
        leaving = sum(c.key.memory for c in self._containers.values() if c.state == "leaving")
        stems = [c.name for c in self._containers.values() if c.spare and c.state == "idle"]
        while self.used - leaving + memory > self._memory:
            name = stems.pop() if stems else self._warm.evict()
            if name is None:
                break
            leaving += self._containers[name].key.memory
            self._destroy(self._containers[name], "evicted", by)
        return False
