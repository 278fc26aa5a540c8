"""A container's way out: its socket, and the connections that come in at it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import structlog

from sidecar import peers
from sidecar.egress.connection import Connection, Net
from sidecar.egress.memory import Memory
from sidecar.egress.records import Account, Entry
from sidecar.egress.rules import Limits, Rules
from sidecar.pace import Pace

log = structlog.get_logger()

_BACKLOG = 128
#: Connections of a container beyond its number, that are only told so.
_MORE = 16
#: Of one container, a second and at once.
_ACCEPTS = (500.0, 1000)
#: Seconds until somebody is let in again where this process has no room.
_BREATH = 0.5
#: Bytes of a container that are read and not passed on.
_MEMORY = 4 * 1024 * 1024


class Door:
    """Listens for one container; serves while an attempt is bound to it, and for that attempt alone."""

    def __init__(self, container: str, path: Path, net: Net, say: Callable[[str, Entry], None]) -> None:
        """`say` takes a line for the log of an attempt."""
        self.container = container
        self.path = path
        self._net = net
        self._say = say
        self._rules: Rules | None = None
        self._memory = Memory(_MEMORY, net.memory)
        self._pace = Pace(*_ACCEPTS)
        self._listener: socket.socket | None = None
        self._watching = False
        self._later: asyncio.TimerHandle | None = None
        self._connections: set[Connection] = set()
        self._refused_user = False
        self.account: Account | None = None

    @property
    def connections(self) -> int:
        return len(self._connections)

    def allow(self, limits: Limits) -> None:
        """What the container may reach from now on. Raises Refused for hosts that are none."""
        self._rules = Rules(limits)
        if self.account is not None:
            self.account.limit = limits.bytes

    def listen(self) -> None:
        """Raises OSError."""
        if self._listener is not None:
            return
        self.path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            listener.bind(str(self.path))
            # as the other socket of the container: the closed directory above keeps the host's users out
            os.chmod(self.path, 0o666)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
        self._listener = listener
        self._watch()

    def open(self, attempt: str, spent: int) -> None:
        """Serves `attempt` from now on; whoever has been let in before that came for another, or for none."""
        if self.account is not None and self.account.attempt == attempt:
            return
        self._turn_out()
        limit = self._rules.limits.bytes if self._rules is not None else None
        self.account = Account(attempt, lambda entry: self._say(attempt, entry), limit, spent)

    def close(self, attempt: str) -> tuple[Account, list[asyncio.Task[None]]] | None:
        """Serves `attempt` no longer: its account, where it was bound, and its connections, which end.

        Who has not been let in yet came for it as well: the next one is bound after this is answered.
        """
        account = self.account
        if account is None or account.attempt != attempt:
            return None
        self.account = None
        with contextlib.suppress(OSError):
            while (waiting := self._accepted()) is not None:
                waiting.close()
        return account, self._turn_out()

    def stop(self) -> None:
        """Stops listening: the container is gone, or this process goes."""
        self._unwatch()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self._turn_out()

    def sweep(self, now: float) -> None:
        """Ends the connections that have carried nothing for long."""
        idle = self._rules.limits.idle if self._rules is not None else 0.0
        for connection in list(self._connections):
            if now - connection.touched > idle:
                connection.task.cancel()

    # ------------------------------------------------------------ who comes in

    def _turn_out(self) -> list[asyncio.Task[None]]:
        """Ends every connection."""
        tasks = [connection.task for connection in self._connections]
        for task in tasks:
            task.cancel()
        return tasks

    def _accepted(self) -> socket.socket | None:
        """Who is next; None where nobody waits. Raises OSError where there is no room for more."""
        if self._listener is None:
            return None
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            return None
        sock.setblocking(False)
        return sock

    def _watch(self) -> None:
        self._later = None
        if not self._watching and self._listener is not None:
            self._watching = True
            asyncio.get_running_loop().add_reader(self._listener, self._ready)

    def _unwatch(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._watching and self._listener is not None:
            self._watching = False
            asyncio.get_running_loop().remove_reader(self._listener)

    def _ready(self) -> None:
        self._unwatch()
        self._net.rounds.add(self.container, self._accept)

    def _most(self) -> int:
        of_rules = self._rules.limits.connections if self._rules is not None else 0
        return min(of_rules, self._net.share())

    def _accept(self) -> bool:
        if self._listener is None:
            return False
        if len(self._connections) >= self._most() + _MORE:
            return False  # again when one has left
        try:
            sock = self._accepted()
        except OSError as error:
            # no descriptors are left: asked again at once, there would not be any either
            log.error("nobody can be let in", container=self.container, problem=str(error))
            self._later = asyncio.get_running_loop().call_later(_BREATH, self._watch)
            return False
        if sock is None:
            self._watch()
            return False
        if not peers.may_be_a_container(uid := peers.uid(sock)):
            if not self._refused_user:
                self._refused_user = True
                log.warning("refused a connection", container=self.container, user=uid)
            sock.close()
        else:
            self._admit(sock)
        if pause := self._pace.take():
            self._later = asyncio.get_running_loop().call_later(pause, self._watch)
            return False
        return True

    def _admit(self, sock: socket.socket) -> None:
        if self.account is None:
            # what binds an attempt was said before the container heard of it
            self._net.catch_up()
        most = self._most()
        self._connections.add(
            Connection(
                self._net,
                self.container,
                sock,
                self._memory,
                self._rules,
                self.account,
                most if len(self._connections) >= most else None,
                self._left,
            )
        )

    def _left(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self._later is None:
            self._watch()
