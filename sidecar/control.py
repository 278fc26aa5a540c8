"""What the runner of this host asks of the sidecar: all containers, and the doors of builders."""

from __future__ import annotations

import asyncio
import re

import msgspec
from samovar.wire import EGRESS_NAME

from coordinator.wire import CancelAttempt, ContainerState, Egress, Reached, Register
from coordinator.wire.directories import private
from sidecar.builders import Builders
from sidecar.connection import clear
from sidecar.container import Container
from sidecar.egress.child import Child, NotListening
from sidecar.egress.errors import Refused as Unruly
from sidecar.egress.rules import Limits, Rules
from sidecar.errors import Refused
from sidecar.events import EventLog
from sidecar.logs import Budget
from sidecar.settings import Settings
from sidecar.sharing import Sharing
from sidecar.ticket import Ticket
from sidecar.turns import Turns
from sidecar.upstream import Upstream

#: A name becomes a directory.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

#: Seconds, at the end, for the accounts of what was reached.
_SETTLED = 2.0
#: Lines and answers of more than envelope.WHOLE that are here at once, over all containers.
_LARGE_AT_ONCE = 8
#: Steps of files that are carried at once, going round the containers.
_TRANSFERS_AT_ONCE = 4


class Sidecar:
    """All containers of the host, by name. What can't be done raises Refused."""

    def __init__(self, settings: Settings, events: EventLog) -> None:
        self._root = settings.containers_directory
        self.events = events
        self._containers: dict[str, Container] = {}
        self._sharing = Sharing()
        self.upstream = Upstream(settings.coordinator_url, self._bound, self._sharing.count)
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._transfers = Turns(_TRANSFERS_AT_ONCE, lambda: max(1, _TRANSFERS_AT_ONCE // max(1, self._bound())))
        self._budget = Budget(settings.buffer_bytes, self._sharing.count)
        self._egress = Child(settings.hosts)
        self._builders = Builders(self._root, self._egress)

    def _bound(self) -> int:
        return sum(container.bound for container in self._containers.values())

    async def register(self, name: str, body: Register) -> ContainerState:
        limits = None if body.egress is None else _limits(body.egress)
        container = self._containers.get(name)
        if container is None:
            if not _NAME.fullmatch(name):
                raise Refused("bad_name", f"{name!r} is not a container's name")
            container = Container(
                name,
                self._root / name,
                self._ticket(name),
                self.upstream,
                self.events,
                self._budget,
                self._large,
                self._transfers,
                self._egress,
                self._sharing,
            )
            self._containers[name] = container
            try:
                private(self._root)
                if limits is not None:
                    # before an attempt is bound, and before there is user code that may come
                    directory = container.listener.directory
                    directory.mkdir(parents=True, exist_ok=True, mode=0o755)
                    await self._egress.listen(name, directory / EGRESS_NAME, limits)
                if body.assignment is not None:
                    container.resume(body.assignment, body.start, body.placing, undelivered=body.undelivered)
                await container.open()
            except OSError as error:
                # registered, it would be believed to listen
                del self._containers[name]
                self._egress.forget(name)
                container.remove()
                raise Refused("not_listening", f"{container.listener.directory}: cannot listen: {error}") from None
        else:
            if limits is not None:
                try:
                    await self._egress.listen(name, container.listener.directory / EGRESS_NAME, limits)
                except NotListening as error:
                    raise Refused("not_listening", f"{name}: {error}") from None
            container.repeat()
            if body.assignment is not None:
                container.resume(body.assignment, body.start, body.placing, undelivered=body.undelivered)
        return container.state()

    async def open_builder(self, name: str, egress: Egress) -> None:
        if not _NAME.fullmatch(name):
            raise Refused("bad_name", f"{name!r} is not a builder's name")
        try:
            await self._builders.open(name, _limits(egress))
        except OSError as error:
            raise Refused("not_listening", f"{name}: cannot listen: {error}") from None

    async def close_builder(self, name: str) -> Reached:
        if not _NAME.fullmatch(name):
            return Reached()
        hosts = await self._builders.close(name)
        return Reached.model_validate({"hosts": [msgspec.structs.asdict(count) for count in hosts]})

    def get(self, name: str) -> Container:
        container = self._containers.get(name)
        if container is None:
            raise Refused("unknown_container", f"no container {name!r} is registered")
        return container

    def cancel(self, name: str, body: CancelAttempt) -> bool:
        """Whether the container was told; False too where none of this name is registered."""
        container = self._containers.get(name)
        return container is not None and container.cancel(body)

    def forget(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            return
        self._egress.forget(name)
        container = self._containers.pop(name, None)
        if container is not None:
            container.remove()
        else:
            # from before this process: the directory stands for a container that is gone
            clear(self._root / name)
        self._ticket(name).remove()
        self.events.forget(name)

    def _ticket(self, name: str) -> Ticket:
        # no container has this directory mounted, and none has a name with a dot in front
        return Ticket(self._root / ".tickets" / name)

    async def close(self) -> None:
        if self._containers:
            settling = [asyncio.create_task(container.settle()) for container in self._containers.values()]
            await asyncio.wait(settling, timeout=_SETTLED)
            for task in settling:
                task.cancel()
        for container in self._containers.values():
            container.close()
        self._builders.stop()
        await self._egress.stop()
        await self.upstream.close()


def _limits(egress: Egress) -> Limits:
    limits = Limits(**egress.model_dump())
    try:
        Rules(limits)
    except Unruly as error:
        raise Refused("bad_egress", f"egress: {error}") from None
    return limits
