"""How a container is made and unmade: its user, the sidecar that listens for it, and the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from coordinator.wire import Assignment, Egress, Register
from runner.container import Container
from runner.engine import Engine
from runner.errors import EngineError, SidecarAway
from runner.reach import Network, egress
from runner.settings import Settings
from runner.sidecar_client import SidecarClient
from runner.spec import ContainerSpec
from runner.users import OneUser, Users

log = structlog.get_logger()

_REMOVAL_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Maker:
    """Makes what the pool has decided on; it counts nothing and decides nothing."""

    def __init__(
        self,
        runner: str,
        settings: Settings,
        engine: Engine,
        sidecar: SidecarClient,
        users: Users | OneUser,
        network: Network,
        clock: Callable[[], float],
    ) -> None:
        self._runner = runner
        self._settings = settings
        self._engine = engine
        self._sidecar = sidecar
        self.users = users
        self._network = network
        self._clock = clock

    def egress(self, container: Container) -> Egress | None:
        """What the sidecar lets a container reach."""
        return egress(container.key.network, self._network)

    async def make(self, container: Container, assignment: Assignment | None) -> None:
        """Starts it, with the assignment waiting for it at the sidecar. Raises EngineError, SidecarAway."""
        uid = await self.users.take(container.name, container.key)
        passwd = await self.users.passwd(container.name, container.key.image, uid)
        listening = Register(uid=self.users.of(container.name), egress=self.egress(container))
        await self._sidecar.register(container.name, listening)
        sockets = self._sockets(container.name)
        spec = ContainerSpec(
            container.name, self._runner, container.key, sockets, uid, str(passwd) if passwd else None
        )
        creating = asyncio.ensure_future(asyncio.to_thread(self._engine.create, spec))
        try:
            if assignment is not None:
                await self._assign(container, assignment)
        finally:
            await creating
        await asyncio.to_thread(self._engine.start, container.name)

    async def _assign(self, container: Container, assignment: Assignment) -> None:
        placing = container.placing
        if placing is not None:
            placing = placing.model_copy(update={"starting": max(0.0, self._clock() - container.since)})
        await self._sidecar.assign(container.name, assignment, "cold", placing)

    async def unmake(self, container: Container) -> None:
        """Removes it, when the engine has answered to its start, and for as long as the engine refuses."""
        await container.begun.wait()
        for pause in (*_REMOVAL_PAUSES, None):
            try:
                await asyncio.to_thread(self._engine.remove, container.name)
                break
            except EngineError as error:
                log.warning("could not remove a container", container=container.name, problem=str(error))
                if pause is not None:
                    await asyncio.sleep(pause)
        try:
            await self._sidecar.forget(container.name)
        except SidecarAway:
            # a sidecar that starts anew knows only what it is told
            log.debug("the sidecar is away; it will not be told of this container again", container=container.name)
        self.users.give_back(container.name)

    def _sockets(self, name: str) -> str:
        """The directory that a container finds its sidecar in; no other part has a say in it.

        Raises EngineError where it is a link: what the engine mounts would be what it points at.
        """
        path = self._settings.containers_directory / name
        for part in (path, path.parent):
            if part.is_symlink():
                raise EngineError(
                    f"{part} is a link, where the sidecar's directory of sockets has to be: remove it"
                )
        return str(path)
