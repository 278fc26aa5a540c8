"""A container's way out: its socket, and the connections that come in at it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
from samovar.wire import PLACES_NAME

from sidecar import peers
from sidecar.egress.connection import Connection, Net
from sidecar.egress.memory import Memory
from sidecar.egress.names import Target
from sidecar.egress.places import BACKLOG, Offer, Place, reset
from sidecar.egress.records import Account, Entry
from sidecar.egress.rules import Limits, Rules
from sidecar.pace import Pace

log = structlog.get_logger()

_BACKLOG = 128
#: Connections of a container beyond its number, that are only told so.
_MORE = 16
#: Of one container, a second and at once.
_ACCEPTS = (500.0, 1000)
#: Seconds that it takes to read a head, look up a name and connect, near enough.
_LET_IN = 0.0002
#: Seconds until somebody is let in again where this process has no room.
_BREATH = 0.5
#: Bytes of a container that are read and not passed on.
_MEMORY = 4 * 1024 * 1024


@dataclass(eq=False)
class _Entrance:
    """Where connections come in: the socket beside the sidecar's, or a place in the container.

    `wanted` is where those of a place lead to; None where the request at their head says so.
    """

    socket: socket.socket
    placed: bool = False
    wanted: Target | None = None
    watched: bool = False


class Door:
    """Listens for one container; serves while an attempt is bound to it, and for that attempt alone."""

    def __init__(self, container: str, path: Path, net: Net, say: Callable[[str, Entry], None]) -> None:
        """`say` takes a line for the log of an attempt."""
        self.container = container
        self.path = path
        self._net = net
        self._say = say
        self._loop = asyncio.get_running_loop()
        self._rules: Rules | None = None
        self._memory = Memory(_MEMORY, net.memory)
        self._pace = Pace(*_ACCEPTS)
        #: The socket beside the sidecar's is the first.
        self._entrances: list[_Entrance] = []
        self._offer: Offer | None = None
        #: Process 1's line, as long as the places are listened at for it.
        self._keeper: socket.socket | None = None
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
        if self._entrances:
            return
        self.path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            listener.bind(str(self.path))
            # as the other socket of the container: the closed directory above keeps the host's users out
            os.chmod(self.path, 0o666)
            peers.no_descriptors(listener)
            listener.listen(_BACKLOG)
            if self._rules is not None and self._rules.limits.mode != "build":
                self._offer = Offer(self.path.with_name(PLACES_NAME))
        except OSError:
            listener.close()
            raise
        self._entrances.append(_Entrance(listener))
        self._watch()
        if self._offer is not None:
            self._loop.add_reader(self._offer.socket, self._take)

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
        for entrance in self._entrances:
            self._turn_away(entrance)
        return account, self._turn_out()

    def stop(self) -> None:
        """Stops listening: the container is gone, or this process goes."""
        self._unwatch()
        self.end_offer()
        self._leave_places()
        for entrance in self._entrances:
            entrance.socket.close()
        self._entrances.clear()
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

    def _turn_away(self, entrance: _Entrance) -> None:
        """Whoever waits to be let in."""
        with contextlib.suppress(OSError):
            for _ in range(2 * BACKLOG):  # one that goes on connecting is not to hold up the others
                if (sock := _accepted(entrance)) is None:
                    return
                reset(sock) if entrance.placed else sock.close()

    def _watch(self) -> None:
        self._later = None
        for entrance in self._entrances:
            if not entrance.watched:
                entrance.watched = True
                self._loop.add_reader(entrance.socket, self._ready, entrance)

    def _unwatch(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        for entrance in self._entrances:
            self._pass_over(entrance)

    def _pass_over(self, entrance: _Entrance) -> None:
        if entrance.watched:
            entrance.watched = False
            self._loop.remove_reader(entrance.socket)

    def _pause(self, seconds: float) -> None:
        self._unwatch()
        self._later = self._loop.call_later(seconds, self._watch)

    def _ready(self, entrance: _Entrance) -> None:
        # it stays watched where that was all: who comes next is seen by that
        if self._net.rounds.ready(self.container, lambda: self._accept(entrance)):
            self._pass_over(entrance)

    def _most(self) -> int:
        of_rules = self._rules.limits.connections if self._rules is not None else 0
        return min(of_rules, self._net.share())

    def _accept(self, entrance: _Entrance) -> bool:
        if entrance not in self._entrances or self._later is not None:
            return False
        if len(self._connections) >= self._most() + _MORE:
            return False  # again when one has left
        try:
            sock = _accepted(entrance)
        except OSError as error:
            # no descriptors are left: asked again at once, there would not be any either
            log.error("nobody can be let in", container=self.container, problem=str(error))
            self._pause(_BREATH)
            return False
        if sock is None:
            self._watch()
            return False
        if not entrance.placed and not peers.may_be_a_container(uid := peers.uid(sock)):
            if not self._refused_user:
                self._refused_user = True
                log.warning("refused a connection", container=self.container, user=uid)
            sock.close()
        else:
            self._admit(sock, entrance)
        if pause := self._pace.take():
            self._pause(pause)
            return False
        return not entrance.watched

    def _admit(self, sock: socket.socket, entrance: _Entrance) -> None:
        if self.account is None:
            # what binds an attempt was said before the container heard of it
            self._net.catch_up()
        if self.account is None and entrance.placed:
            reset(sock)
            return
        self._net.rounds.owe(_LET_IN)
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
                placed=entrance.placed,
                wanted=entrance.wanted,
            )
        )

    def _left(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self._later is None:
            self._watch()

    # ------------------------------------------------------------ places in the container

    def _take(self) -> None:
        """Somebody hands over, and user code is not there yet."""
        offer, loop = self._offer, self._loop
        if offer is not None and not offer.taken:
            loop.remove_reader(offer.socket)
            offer.take(lambda keeper, places: _tell(loop, self._placed, keeper, places))

    def _placed(self, keeper: socket.socket, places: list[Place]) -> None:
        if self._offer is None or not self._net.room.take(len(places)):
            for place in places:
                place.socket.close()
            keeper.close()
            return
        self._offer = None
        self._keeper = keeper
        self._entrances += [_Entrance(place.socket, placed=True, wanted=place.wanted) for place in places]
        self._watch()
        self._loop.add_reader(keeper, self._hear)
        self._answer(b"listening")

    def end_offer(self) -> None:
        """Takes no places any more: what user code may hand over is none of process 1's."""
        offer, self._offer = self._offer, None
        if offer is not None:
            if not offer.taken:
                self._loop.remove_reader(offer.socket)
            offer.stop()

    def _hear(self) -> None:
        """A run is over, and process 1 asks that whoever waits at a place be turned away; or it is gone."""
        if self._keeper is not None:
            self._loop.remove_reader(self._keeper)
            self._net.rounds.add(self.container, self._settle)

    def _settle(self) -> bool:
        if self._keeper is None:
            return False
        try:
            said = self._keeper.recv(16)
        except (BlockingIOError, InterruptedError):
            said = b"nothing"
        except OSError:
            said = b""
        if not said:
            self._leave_places()
            return False
        for entrance in self._entrances:
            if entrance.placed:
                self._turn_away(entrance)
        self._answer(b"settled")
        if self._keeper is not None:
            self._loop.add_reader(self._keeper, self._hear)
        return False

    def _answer(self, said: bytes) -> None:
        assert self._keeper is not None
        try:
            self._keeper.send(said)
        except OSError:  # gone, or it does not read what it has asked for
            self._leave_places()

    def _leave_places(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        self._loop.remove_reader(keeper)
        keeper.close()
        placed = [entrance for entrance in self._entrances if entrance.placed]
        self._net.room.give(len(placed))
        for entrance in placed:
            self._pass_over(entrance)
            self._entrances.remove(entrance)
            entrance.socket.close()


def _accepted(entrance: _Entrance) -> socket.socket | None:
    """Who is next; None where nobody waits. Raises OSError where there is no room for more."""
    try:
        sock, _ = entrance.socket.accept()
    except (BlockingIOError, InterruptedError, ConnectionError):
        return None
    sock.setblocking(False)
    return sock


def _tell(
    loop: asyncio.AbstractEventLoop,
    placed: Callable[[socket.socket, list[Place]], None],
    keeper: socket.socket,
    places: list[Place],
) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended, and the process with it
        loop.call_soon_threadsafe(placed, keeper, places)
