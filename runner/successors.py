"""Successors: who takes the place of a container that has served long enough, before it leaves."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Coroutine
from typing import Any, Literal

from coordinator.wire import Leaving
from runner.container import Container
from runner.settings import Settings
from runner.spec import ContainerKey

#: Of their time, how much earlier some containers leave: not all of them at once.
_EARLIER = 0.2

Served = Literal["runs", "age"]


class Successors:
    """Replaces containers without a run that pays for it.

    It is given what the pool can do: `possible`, whether a container of a key may be started that nobody waits for;
    `begin`, which starts one; `stand_ready`, which returns when it is idle, or gone; and `destroy`.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float],
        *,
        possible: Callable[[ContainerKey], bool],
        begin: Callable[[ContainerKey, str], Container],
        stand_ready: Callable[[Container], Coroutine[Any, Any, None]],
        destroy: Callable[[Container, Leaving], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._possible = possible
        self._begin = begin
        self._stand_ready = stand_ready
        self._destroy = destroy
        self._spawn = spawn

    def served(self, container: Container) -> Served | None:
        """What it has had, its runs or its time, which is up to a fifth less; None: it serves on."""
        if container.runs >= self._settings.max_runs:
            return "runs"
        less = _EARLIER * zlib.crc32(container.name.encode()) / 2**32
        old = self._clock() - container.since >= self._settings.max_age * (1 - less)
        return "age" if old else None

    def on_its_way(self, container: Container) -> bool:
        """Whether one is being started: until it stands ready, the old one serves on."""
        return container.successor is not None and container.successor.state == "starting"

    def serves_on(self, container: Container) -> bool:
        """Whether it takes another run when it comes back: it has not served long enough, or will be replaced."""
        return self.served(container) is None or self._replaceable(container)

    def replace(self, container: Container) -> bool:
        """Whether another one is on its way into this one's place.

        It is started only where there is room for both, and a start slot that nobody waits for.
        """
        if not self._replaceable(container):
            return False
        if container.successor is None:
            container.successor = fresh = self._begin(container.key, container.task)
            self._spawn(self._take_over(fresh, container))
        return True

    def _replaceable(self, container: Container) -> bool:
        if container.successor is not None:
            return self.on_its_way(container)
        return self._possible(container.key)

    async def _take_over(self, fresh: Container, old: Container) -> None:
        await self._stand_ready(fresh)
        if old.state == "idle":
            self._destroy(old, self.served(old) or "age")  # one that is busy leaves when it comes back
