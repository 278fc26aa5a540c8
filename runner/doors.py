"""The doors that a build asks for, one for each step that downloads: opened by the sidecar, held open, closed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from coordinator.wire import Egress, EgressHost
from coordinator.wire.host import BUILDER
from images.errors import BuildError
from images.host import Reach
from images.way import Refusal
from runner.errors import SidecarAway
from runner.sidecar_client import SidecarClient

T = TypeVar("T")

#: Seconds between two calls that hold a door open; the sidecar closes one that nobody asks for within thirty.
_AGAIN = 5.0
#: Seconds for the sidecar, which may be starting again.
_PATIENCE = 15.0
_PAUSE = 0.25
#: Seconds after which the loop is taken to have ended with its runner.
_LONGEST = 40.0
#: Connections of one step at a time.
_CONNECTIONS = 256


class Doors:
    """Opens doors for the steps of one build, which is carried out in another thread than the loop's."""

    def __init__(
        self,
        sidecar: SidecarClient,
        containers: Path,
        hosts: list[str],
        log: Callable[[str], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """`containers`: where the sidecar has its sockets. `hosts`: what the operator adds to a build's own."""
        self._sidecar = sidecar
        self._containers = containers
        self._hosts = hosts
        self._log = log
        self._loop = loop

    def __call__(self, reach: Reach) -> Door:
        """A door to `reach` and the operator's hosts. Raises BuildError where the sidecar does not open it."""
        hosts = list(dict.fromkeys([*reach.hosts, *self._hosts]))
        private = list(dict.fromkeys([*reach.private, *self._hosts]))
        egress = Egress(mode="build", hosts=hosts, private=private, connections=_CONNECTIONS)
        name = secrets.token_hex(4)
        door = Door(name, self._containers / f"{BUILDER}{name}", hosts, self)
        try:
            self.call(self._opened(name, egress))
        except SidecarAway as error:
            raise BuildError(
                f"the way to the package index could not be opened: {error}; deploy again when the sidecar of this "
                "host is back",
                code="sidecar_away",
            ) from None
        door.hold(egress)
        return door

    def call(self, what: Coroutine[Any, Any, T]) -> T:
        """Carries `what` out in the loop, and waits for it. Raises BuildError where the runner goes meanwhile."""
        asked = asyncio.run_coroutine_threadsafe(what, self._loop)
        try:
            return asked.result(_LONGEST)
        except (TimeoutError, CancelledError):
            asked.cancel()
            raise BuildError("the runner has ended while it was building; deploy again") from None

    async def renew(self, name: str, egress: Egress) -> None:
        """Holds a door open until it is canceled. A sidecar that has begun anew opens it once more."""
        while True:
            await asyncio.sleep(_AGAIN)
            with suppress(SidecarAway):
                await self._sidecar.open_builder(name, egress)

    async def closed(self, name: str, holding: asyncio.Task[None]) -> list[EgressHost]:
        holding.cancel()
        await asyncio.wait({holding})
        try:
            return (await self._sidecar.close_builder(name)).hosts
        except SidecarAway as error:
            # it is closed when nobody asks for it any more
            self._log(f"what was reached is not known: {error}")
            return []

    def tell(self, hosts: list[EgressHost]) -> None:
        """What was reached, for the log."""
        for host in hosts:
            place = _place(host)
            if host.connections:
                self._log(
                    f"{place}: {host.connections} connection{'' if host.connections == 1 else 's'}, "
                    f"{_kilobytes(host.sent)} sent, {_kilobytes(host.received)} received"
                )
            if host.refused:
                self._log(f"{place}: refused {host.refused} times: {host.reason}")

    async def _opened(self, name: str, egress: Egress) -> None:
        deadline = self._loop.time() + _PATIENCE
        while True:
            try:
                return await self._sidecar.open_builder(name, egress)
            except SidecarAway:
                if self._loop.time() > deadline:
                    raise
            await asyncio.sleep(_PAUSE)


class Door:
    """One that is open; `directory` has its socket."""

    def __init__(self, name: str, directory: Path, hosts: list[str], doors: Doors) -> None:
        self.directory = directory
        self._hosts = hosts
        self._name = name
        self._doors = doors
        self._holding: asyncio.Task[None] | None = None

    def hold(self, egress: Egress) -> None:
        async def begin() -> None:
            self._holding = asyncio.create_task(self._doors.renew(self._name, egress))

        self._doors.call(begin())

    def close(self) -> list[Refusal]:
        """Closes it, and logs what was reached; what was refused."""
        assert self._holding is not None, "it is held from the beginning"
        hosts = self._doors.call(self._doors.closed(self._name, self._holding))
        self._doors.tell(hosts)
        return [
            Refusal(host.reason or f"{_place(host)} was refused", self._named(_place(host)))
            for host in hosts
            if host.refused
        ]

    def _named(self, place: str) -> bool:
        return any(place == item or (item[0] == "*" and place.endswith(item[1:])) for item in self._hosts)


def _place(host: EgressHost) -> str:
    if not host.port:
        return "other hosts"
    return f"[{host.host}]:{host.port}" if ":" in host.host else f"{host.host}:{host.port}"


def _kilobytes(number: int) -> str:
    return f"{number / 1000:.1f} kB" if number < 10**6 else f"{number / 10**6:.1f} MB"
