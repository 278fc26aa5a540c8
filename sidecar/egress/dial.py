"""Connections to the net: the first address that answers, or by way of the host's own proxy."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import select
import socket
from collections.abc import Awaitable, Callable, Sequence

from sidecar.egress.addresses import Address
from sidecar.egress.errors import Refused
from sidecar.egress.names import Target
from sidecar.egress.upstream import Proxy

#: Seconds until the next address is tried beside the one that has not answered (RFC 8305).
_STAGGER = 0.25
_DEADLINE = 15.0

#: A connected socket that does not block. Raises OSError.
Connect = Callable[[Address, int], Awaitable[socket.socket]]


async def connect(address: Address, port: int) -> socket.socket:
    """A TCP connection."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if not _connected(sock, address, port):
            await asyncio.get_running_loop().sock_connect(sock, (str(address), port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def _connected(sock: socket.socket, address: Address, port: int) -> bool:
    """Whether it is connected already, as to this host and what is in it. Else the loop asks for the same again.

    Raises OSError.
    """
    problem = sock.connect_ex((str(address), port))
    if problem == errno.EINPROGRESS:
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        if not poll.poll(0):
            return False
        problem = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if problem:
        raise OSError(problem, os.strerror(problem))
    return True


class Dialer:
    """Connects to targets whose addresses have been resolved and allowed."""

    def __init__(self, connect: Connect = connect, deadline: float = _DEADLINE, stagger: float = _STAGGER) -> None:
        self._connect = connect
        self._deadline = deadline
        self._stagger = stagger

    async def dial(self, wanted: Target, found: Sequence[Address]) -> socket.socket:
        """A connection to the first of `found` that answers. Raises Refused (`cannot_connect`, `timeout`)."""
        try:
            async with asyncio.timeout(self._deadline):
                if len(found) == 1:
                    return await self._only(wanted, found[0])
                return await self._race(wanted, interleaved(found))
        except TimeoutError:
            raise Refused(504, "timeout", f"{wanted} did not answer within {self._deadline:g} s") from None

    async def _only(self, wanted: Target, address: Address) -> socket.socket:
        try:
            return await self._connect(address, wanted.port)
        except OSError as error:
            raise _cannot(wanted, error) from None

    async def dial_proxy(self, proxy: Proxy) -> socket.socket:
        """A connection to the host's own proxy, wherever that is. Raises Refused (`upstream_proxy`)."""
        try:
            async with asyncio.timeout(self._deadline):
                places = await asyncio.get_running_loop().getaddrinfo(
                    proxy.host, proxy.port, type=socket.SOCK_STREAM
                )
                found = [ipaddress.ip_address(place[0]) for _, _, _, _, place in places]
                return await self._race(Target(proxy.host, proxy.port), interleaved(found))
        except TimeoutError:
            raise Refused(504, "upstream_proxy", f"the host's proxy {proxy.host} did not answer in time") from None
        except Refused as error:
            raise Refused(502, "upstream_proxy", f"the host's proxy: {error}") from None
        except OSError as error:
            raise Refused(502, "upstream_proxy", f"the host's proxy {proxy.host}: {error.strerror}") from None

    async def _race(self, wanted: Target, found: list[Address]) -> socket.socket:
        """Starts one attempt after the other, each when those before it have failed or take long."""
        problems: list[OSError] = []
        tries: set[asyncio.Task[socket.socket]] = set()
        left = list(found)
        try:
            while left or tries:
                if left:
                    tries.add(asyncio.create_task(self._try(left.pop(0), wanted.port)))
                done, tries = await asyncio.wait(
                    tries, timeout=self._stagger if left else None, return_when=asyncio.FIRST_COMPLETED
                )
                winner: socket.socket | None = None
                for one in done:
                    if (problem := one.exception()) is None:
                        if winner is None:
                            winner = one.result()
                        else:
                            one.result().close()
                    elif isinstance(problem, OSError):
                        problems.append(problem)
                    else:
                        raise problem
                if winner is not None:
                    return winner
        finally:
            for one in tries:
                one.add_done_callback(_drop)
                one.cancel()
        raise _cannot(wanted, problems[-1] if problems else None)

    async def _try(self, address: Address, port: int) -> socket.socket:
        return await self._connect(address, port)


def _cannot(wanted: Target, problem: OSError | None) -> Refused:
    text = (problem.strerror or str(problem)) if problem is not None else "it has no address"
    return Refused(502, "cannot_connect", f"can't connect to {wanted}: {text}")


def _drop(one: asyncio.Task[socket.socket]) -> None:
    """Of an attempt that came second, or too late."""
    with contextlib.suppress(asyncio.CancelledError, OSError):
        one.result().close()


def interleaved(found: Sequence[Address]) -> list[Address]:
    """The families in turn, beginning with that of the first: the resolver has put it first for a reason."""
    if not found:
        return []
    first = [a for a in found if a.version == found[0].version]
    other = [a for a in found if a.version != found[0].version]
    mixed: list[Address] = []
    while first or other:
        mixed += first[:1] + other[:1]
        first, other = first[1:], other[1:]
    return mixed
