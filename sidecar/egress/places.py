"""Places of a container's own loopback at which this process listens itself, so that no process there relays.

Process 1 hands over one socket that listens, before any user code is there, and has connected to it once for each
place. What is accepted from it belongs to the container's network and to this process alone: no flag and no option
of it can be changed from there. It is disconnected again, bound to the place and listens. The socket that was
handed over stays the container's, whose calls may block whoever makes them, even a close: so a thread of the
container's own makes them, and nothing that was handed over is kept.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sidecar import peers
from sidecar.egress.errors import Refused
from sidecar.egress.names import Target, target

#: Of a container: the hosts of a list, and the proxy.
MOST = 128
#: Bytes of the message; 100 places of the longest names, and some.
_LONGEST = 64 * 1024
BACKLOG = 512
#: Bytes of a connection that the kernel takes beyond what the container's has taken.
_UNSENT = 1024 * 1024
#: On loopback nothing is lost and nothing is far: what the host prefers for the net may pace it (bbr).
_CONGESTION = b"reno"
_LOOPBACK = ipaddress.IPv4Network("127.0.0.0/8")
#: Linger for no time: a close is a reset then, which no client takes for an end.
_RESET = b"\x01\x00\x00\x00\x00\x00\x00\x00"
_NO_LINGER = bytes(8)
_SO_DETACH_FILTER = 27
_SO_TIMESTAMPS = (29, 35, 37, 63, 64, 65)
_IP_RECVERR = 11
#: An address of no family: a connection to it is the end of the one that there is.
_NOWHERE = bytes(16)

_connect = ctypes.CDLL(None, use_errno=True).connect


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """What process 1 sends: (address, port, name) of each place, without a name that of the proxy."""

    places: list[tuple[str, int, str | None]]


@dataclass
class Place:
    """A socket that listens in the container; `wanted` is where it leads to, None where a request says so."""

    socket: socket.socket
    wanted: Target | None


class Room:
    """How many places of all containers there may be yet."""

    def __init__(self, most: int) -> None:
        self._left = most

    def take(self, count: int) -> bool:
        if count > self._left:
            return False
        self._left -= count
        return True

    def give(self, count: int) -> None:
        self._left += count


#: Takes process 1's end of the socket that it has spoken at, and the places. Called in the thread.
Made = Callable[[socket.socket, list[Place]], None]


class Offer:
    """A socket at which process 1 hands over, once. Stopped, it takes nothing any more."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._path = path
        path.unlink(missing_ok=True)
        # a message is whole, with what is handed over, or it is not there
        self.socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            self.socket.bind(str(path))
            os.chmod(path, 0o666)
            self.socket.listen(1)
        except OSError:
            self.socket.close()
            raise
        #: Whether somebody is at it, or it is stopped: the socket is its own then.
        self.taken = self._stopped = False
        #: What the thread may wait at, for as long as the container likes.
        self._held: socket.socket | None = None
        self._lock = threading.Lock()

    def take(self, made: Made) -> None:
        """From whom has connected first. What does not hold is closed, and `made` not called."""
        self.taken = True
        threading.Thread(target=self._take, args=(made,), name="places", daemon=True).start()

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._held is not None:
                with contextlib.suppress(OSError):
                    self._held.shutdown(socket.SHUT_RDWR)
        if not self.taken:
            self.taken = True
            self._leave()
            # with descriptors in its line, that may block as well
            threading.Thread(target=self.socket.close, name="places", daemon=True).start()

    def _leave(self) -> None:
        """User code finds nothing there."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _take(self, made: Made) -> None:
        places: list[Place] = []
        with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError, Refused):
            with self.socket:
                keeper, _ = self.socket.accept()
                self._leave()
            try:
                keeper.setblocking(True)
                with self._holding(keeper):
                    self._fill(places, keeper)
                keeper.setblocking(False)
            except BaseException:
                for place in places:
                    place.socket.close()
                keeper.close()
                raise
            made(keeper, places)

    @contextlib.contextmanager
    def _holding(self, sock: socket.socket) -> Iterator[None]:
        with self._lock:
            if self._stopped:
                raise OSError(errno.ECANCELED, "stopped")
            before, self._held = self._held, sock
        try:
            yield
        finally:
            with self._lock:
                self._held = before

    def _fill(self, places: list[Place], keeper: socket.socket) -> None:
        if not peers.may_be_a_container(peers.uid(keeper)):
            raise ValueError("no user of a container")
        data, descriptors, flags, _ = socket.recv_fds(keeper, _LONGEST, 8, socket.MSG_CMSG_CLOEXEC)
        peers.no_descriptors(keeper)
        try:
            if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC) or len(descriptors) != 1:
                raise ValueError("one descriptor is wanted")
            told = msgspec.json.decode(data, type=Wanted).places
            if not 1 <= len(told) <= MOST:
                raise ValueError("too many places, or none")
            with socket.socket(fileno=os.dup(descriptors[0])) as handed:
                if not _listens(handed):
                    raise ValueError("no socket that listens for TCP")
                handed.settimeout(None)
                with self._holding(handed):
                    for address, port, name in told:
                        places.append(_place(handed, address, port, name))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def reset(sock: socket.socket) -> None:
    """Close at once, so that the other side sees an error and no end."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


def _listens(sock: socket.socket) -> bool:
    def of(option: int) -> int:
        return sock.getsockopt(socket.SOL_SOCKET, option)

    return (of(socket.SO_DOMAIN), of(socket.SO_TYPE), of(socket.SO_PROTOCOL), of(socket.SO_ACCEPTCONN)) == (
        socket.AF_INET,
        socket.SOCK_STREAM,
        socket.IPPROTO_TCP,
        1,
    )


def _place(handed: socket.socket, address: str, port: int, name: str | None) -> Place:
    if ipaddress.IPv4Address(address) not in _LOOPBACK or not 1 <= port <= 65535:
        raise ValueError("no place of loopback")
    wanted = target(f"{name}:{port}") if name is not None else None
    sock, _ = handed.accept()
    try:
        sock.setblocking(False)
        if _connect(sock.fileno(), _NOWHERE, len(_NOWHERE)):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        _forget(sock)
        sock.bind((address, port))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return Place(sock, wanted)


def _forget(sock: socket.socket) -> None:
    """What the container may have set, and its connections would have from it."""
    general = socket.SOL_SOCKET
    sock.setsockopt(general, socket.SO_LINGER, _NO_LINGER)
    for option, value in (
        (socket.SO_REUSEADDR, 1),
        (socket.SO_REUSEPORT, 0),
        (socket.SO_KEEPALIVE, 0),
        (socket.SO_RCVLOWAT, 1),
        *((option, 0) for option in _SO_TIMESTAMPS),
    ):
        with contextlib.suppress(OSError):
            sock.setsockopt(general, option, value)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 0)
    with contextlib.suppress(OSError):
        sock.setsockopt(general, _SO_DETACH_FILTER, 0)
    for option, value in (
        (socket.TCP_NODELAY, 1),
        (socket.TCP_DEFER_ACCEPT, 0),
        (socket.TCP_USER_TIMEOUT, 0),
        (socket.TCP_NOTSENT_LOWAT, _UNSENT),
    ):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _CONGESTION)
