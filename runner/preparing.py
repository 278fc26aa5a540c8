"""What is started for nobody: it never takes what a run could want."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from coordinator.keeping.warm import WarmSet
from coordinator.wire import Leaving
from runner.container import Container, Prepared
from runner.settings import Settings
from runner.spec import ContainerKey
from runner.starts import Starts
from runner.stems import Stems, Wish


class Preparer:
    """Decides when a container may be started that nobody waits for, and starts the stems that are wished for.

    It is given what the pool can do: `waited_for`, whether a run waits in it, and `wanted`, whether one waits for a
    start; `fits`, whether so much memory is free; `begin`, which starts a container; `stand_ready`, which returns
    when it is idle, or gone; and `destroy`.
    """

    def __init__(
        self,
        settings: Settings,
        containers: Mapping[str, Container],
        starts: Starts,
        warm: WarmSet,
        stems: Stems,
        *,
        waited_for: Callable[[], bool],
        wanted: Callable[[], bool],
        fits: Callable[[int], bool],
        begin: Callable[[ContainerKey, str, Prepared], Container],
        stand_ready: Callable[[Container], Coroutine[Any, Any, None]],
        destroy: Callable[[Container, Leaving], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._most = settings.stems
        self._containers = containers
        self._starts = starts
        self._warm = warm
        self._stems = stems
        self._waited_for = waited_for
        self._wanted = wanted
        self._fits = fits
        self._begin = begin
        self._stand_ready = stand_ready
        self._destroy = destroy
        self._spawn = spawn

    def possible(self, key: ContainerKey) -> bool:
        """Whether a successor may be started: there is room, and a slot that nobody wants.

        Who waits for the old one to come back wants it, and not a start: without a successor it would leave, and
        that run would be the one that pays for it.
        """
        if self._wanted():
            return False
        waiter = self._starts.wait(key.project, key.memory)
        possible = self._starts.is_next(waiter, self._fits) and self._fits(key.memory)
        self._starts.leave(waiter)
        return possible

    def step(self) -> None:
        """Starts what is wished for, one after the other.

        A stem takes no start slot, so that no run's start ever waits for it: it begins only while nothing else is
        being started.
        """
        for wish in self._stems.due():
            there = [c for c in self._containers.values() if c.key.digest == wish.key.digest]
            ready = [c for c in there if c.state == "idle" or (c.unused and c.state == "starting")]
            if ready or (wish.supersedes and there):
                self._stems.met(wish)
                if wish.supersedes:  # as one of another task of the deploy may have met it already
                    self._spawn(self._supersede((ready or there)[0], wish))
            elif self._may(wish):
                self._stems.met(wish)
                self._spawn(self._stand_by(self._begin(wish.key, wish.task, "stem"), wish))

    def _may(self, wish: Wish) -> bool:
        unused = [c for c in self._containers.values() if c.spare]
        if len(unused) >= self._most or any(c.state == "starting" for c in unused):
            return False
        free = self._starts.quiet and not self._waited_for() and not self._starts.pause(wish.key.project)
        return free and self._fits(wish.key.memory) and self._warm.has_room(wish.task)

    async def _stand_by(self, container: Container, wish: Wish) -> None:
        await self._stand_ready(container)
        if wish.supersedes:
            await self._supersede(container, wish)

    async def _supersede(self, container: Container, wish: Wish) -> None:
        """Those of other versions leave as soon as the new one serves."""
        await container.settled.wait()
        if container.state == "leaving" or container.baseline is None:
            return
        for other in [self._containers[idle.name] for idle in self._warm if idle.task == wish.task]:
            if other.key.project == wish.key.project and other.key.image != wish.key.image:
                self._destroy(other, "superseded")
