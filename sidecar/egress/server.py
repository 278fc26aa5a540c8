"""The egress process: told by the sidecar over one socket, it keeps a door for each container."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Coroutine, Mapping
from pathlib import Path

import msgspec
import structlog

from sidecar.egress import messages
from sidecar.egress.connection import Net
from sidecar.egress.dial import Dialer
from sidecar.egress.door import Door
from sidecar.egress.errors import Refused
from sidecar.egress.memory import Memory
from sidecar.egress.messages import (
    Begun,
    Close,
    Closed,
    Counts,
    Down,
    Line,
    Listen,
    Listening,
    Open,
    Splitter,
    Up,
)
from sidecar.egress.pipes import Pipes
from sidecar.egress.places import Room
from sidecar.egress.records import Account, Entry
from sidecar.egress.resolver import HostResolver, HostsFile
from sidecar.egress.rounds import Rounds
from sidecar.egress.upstream import Proxies

log = structlog.get_logger()

#: Bytes of all containers that are read and not passed on.
_MEMORY = 64 * 1024 * 1024
#: Connections of the host, and what one container always has.
_CONNECTIONS = 4096
_ALWAYS = 32
#: Descriptors of a connection, of places in containers, and of everything else.
_OF_EACH = 2
_PLACES = 2048
_OTHERS = 768
#: Seconds between two looks at who is idle, and at what has changed.
_SWEEP = 1.0
_COUNTS = 2.0
#: Bytes for the sidecar beyond which counts wait for the next time.
_UNREAD = 1024 * 1024
_READ = 256 * 1024


class Server:
    """Carries out what it is told, in the order in which it is told."""

    def __init__(self, control: socket.socket, environment: Mapping[str, str], hosts: Path | None) -> None:
        self._control = control
        self._doors: dict[str, Door] = {}
        self._splitter = Splitter()
        self._unread = bytearray()
        self._writing = False
        self._tasks: set[asyncio.Task[None]] = set()
        #: Attempts that are over, and not yet counted.
        self._settling: set[tuple[str, str]] = set()
        self._connections = _most_connections()
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self.net = Net(
            HostResolver(HostsFile(hosts), containers=self._busy),
            Dialer(),
            Proxies(environment),
            Rounds(),
            Memory(_MEMORY),
            Pipes(),
            Room(_most_places()),
            self._share,
            self._catch_up,
        )

    async def run(self) -> None:
        """Until the sidecar is gone."""
        self._control.setblocking(False)
        self._loop.add_reader(self._control, self._catch_up)
        sweeping = asyncio.create_task(self._sweep())
        try:
            await self._over
        finally:
            sweeping.cancel()
            self._loop.remove_reader(self._control)
            for door in self._doors.values():
                door.stop()
            self.net.pipes.close()

    # ------------------------------------------------------------ what the sidecar says

    def _catch_up(self) -> None:
        """Reads and carries out all there is, at once: whoever asks for it depends on it."""
        while not self._over.done():
            try:
                data = self._control.recv(_READ)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data = b""
            if not data:
                self._end()
                return
            try:
                for line in self._splitter.feed(data):
                    self._do(messages.down(line))
            except (ValueError, msgspec.MsgspecError) as error:
                # who is told what it does not understand may serve somebody what it must not
                log.error("the sidecar says what is not understood", problem=str(error)[:500])
                self._end()

    def _do(self, message: Down) -> None:
        if isinstance(message, Listen):
            self._listen(message)
        elif isinstance(message, Open):
            if (door := self._doors.get(message.container)) is not None:
                door.open(message.attempt, message.spent)
        elif isinstance(message, Begun):
            if (door := self._doors.get(message.container)) is not None:
                door.end_offer()
        elif isinstance(message, Close):
            self._close(message.container, message.attempt)
        elif (door := self._doors.get(message.container)) is not None:
            if door.account is not None:
                self._close(message.container, door.account.attempt)
            door.stop()
            del self._doors[message.container]

    def _listen(self, message: Listen) -> None:
        container = message.container
        door = self._doors.get(container)
        if door is None:
            door = Door(
                container,
                Path(message.path),
                self.net,
                lambda attempt, entry: self._line(container, attempt, entry),
            )
        try:
            door.allow(message.limits)
            door.listen()
        except (Refused, OSError) as error:
            self._say(Listening(container, str(error)))
            return
        self._doors[container] = door
        self._say(Listening(container))

    def _close(self, container: str, attempt: str) -> None:
        door = self._doors.get(container)
        closed = door.close(attempt) if door is not None else None
        if closed is not None:
            self._settling.add((container, attempt))
            self._background(self._settle(container, *closed))
        elif (container, attempt) not in self._settling:
            self._say(Closed(container, attempt))

    async def _settle(self, container: str, account: Account, connections: list[asyncio.Task[None]]) -> None:
        if connections:
            await asyncio.wait(connections)
        account.close()
        if account.changed:
            self._count(container, account)
        self._settling.discard((container, account.attempt))
        self._say(Closed(container, account.attempt))

    def _background(self, coroutine: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ------------------------------------------------------------ what it hears

    def _line(self, container: str, attempt: str, entry: Entry) -> None:
        self._say(Line(container, attempt, entry.level, entry.message))

    def _count(self, container: str, account: Account) -> None:
        account.changed = False
        self._say(Counts(container, account.attempt, account.spent, account.hosts()))

    def _say(self, message: Up) -> None:
        self._unread += messages.encode(message)
        self._write()

    def _write(self) -> None:
        try:
            while self._unread:
                del self._unread[: self._control.send(self._unread)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._end()
            return
        if bool(self._unread) != self._writing:
            self._writing = bool(self._unread)
            if self._writing:
                self._loop.add_writer(self._control, self._write)
            else:
                self._loop.remove_writer(self._control)

    def _end(self) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._control)
        if not self._over.done():
            self._over.set_result(None)

    # ------------------------------------------------------------ from time to time

    async def _sweep(self) -> None:
        counted = self._loop.time()
        while True:
            await asyncio.sleep(_SWEEP)
            now = self._loop.time()
            for door in list(self._doors.values()):
                door.sweep(now)
            if now - counted < _COUNTS or len(self._unread) > _UNREAD:
                continue
            counted = now
            for door in list(self._doors.values()):
                if door.account is not None and door.account.changed:
                    self._count(door.container, door.account)

    def _busy(self) -> int:
        return sum(1 for door in self._doors.values() if door.connections)

    def _share(self) -> int:
        return max(_ALWAYS, self._connections // max(1, self._busy()))


def _most_connections() -> int:
    """As many as this process may have descriptors for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OF_EACH * _CONNECTIONS + _PLACES + _OTHERS
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(_CONNECTIONS, max(_ALWAYS, (soft - _most_places() - _OTHERS) // _OF_EACH))


def _most_places() -> int:
    """Where descriptors are few, connections have them: there is another way than places."""
    return min(_PLACES, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8)
