"""One connection of a container: the request at its head, and what comes of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from sidecar.egress import head, upstream
from sidecar.egress.addresses import Address
from sidecar.egress.dial import Dialer
from sidecar.egress.errors import Broken, Refused
from sidecar.egress.forward import Exchange
from sidecar.egress.head import Head
from sidecar.egress.memory import Memory
from sidecar.egress.names import Target
from sidecar.egress.pipes import Pipes
from sidecar.egress.places import Room, reset
from sidecar.egress.records import Account, Call
from sidecar.egress.resolver import Resolver
from sidecar.egress.rounds import Rounds
from sidecar.egress.rules import Rules
from sidecar.egress.tunnel import Tunnel
from sidecar.egress.upstream import Proxies, Proxy

log = structlog.get_logger()

#: Seconds for a head to come in.
_PATIENCE = 10.0
#: Seconds and bytes that are waited for after a refusal, for a client that is still speaking to read it.
_LINGER = 1.0
_LINGERED = 256 * 1024

_REASONS = {
    400: "Bad Request",
    403: "Forbidden",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@dataclass
class Net:
    """What all containers of a host share."""

    resolver: Resolver
    dialer: Dialer
    proxies: Proxies
    rounds: Rounds
    memory: Memory
    pipes: Pipes
    room: Room
    #: Connections that one container may have at the moment, whatever its rules allow.
    share: Callable[[], int]
    #: Reads what the sidecar has said and nobody has looked at yet.
    catch_up: Callable[[], None]
    patience: float = _PATIENCE


class Connection:
    """One connection of a container, from its head to its end."""

    def __init__(
        self,
        net: Net,
        container: str,
        sock: socket.socket,
        memory: Memory,
        rules: Rules | None,
        account: Account | None,
        most: int | None,
        left: Callable[[Connection], None],
        *,
        placed: bool = False,
        wanted: Target | None = None,
    ) -> None:
        """`account`: of the attempt that it is made for. `left`: called when it has ended.

        `most`: how many the container may have, where this is one more; it is only told so. `placed`: it came in at
        a place in the container, by TCP; `wanted`: where that leads to, there is no request then.
        """
        self._net = net
        self._container = container
        self._client = sock
        self._memory = memory
        self._rules = rules
        self._account = account
        self._most = most
        self._left = left
        self._placed = placed
        self._wanted = wanted
        #: Whether all has been passed on. Else a client by TCP is to see an error, not an end of what it was told.
        self._whole = False
        self._remote: socket.socket | None = None
        self._call: Call | None = None
        self._loop = asyncio.get_running_loop()
        #: When it carried something last.
        self.touched = self._loop.time()
        self.task = self._loop.create_task(self._run())
        # not at the end of it: one that is cancelled before it begins has no end
        self.task.add_done_callback(self._done)

    async def _run(self) -> None:
        try:
            # cancelled by the end of the attempt, or of patience: there is nobody above to hear of it
            with contextlib.suppress(Broken, OSError, asyncio.CancelledError):
                await self._serve()
        except Exception:
            log.exception("a connection failed", container=self._container)

    def _done(self, task: asyncio.Task[None]) -> None:
        if self._call is not None:
            self._call.end()
        if self._placed and not self._whole:
            reset(self._client)
        else:
            self._client.close()
        if self._remote is not None:
            self._remote.close()
        self._left(self)

    async def _serve(self) -> None:
        wanted = self._wanted
        try:
            data, size = await self._head() if wanted is None else (bytearray(), 0)
            if self._account is None or self._rules is None:
                raise Refused(503, "no_run", "no run is bound to this container")
            request = head.parse(bytes(data[:size])) if wanted is None else head.to(wanted)
            wanted = request.wanted
            if self._account.exhausted:
                raise Refused(429, "too_many_bytes", "the run has passed on as many bytes as it may")
            if self._most is not None:
                raise Refused(
                    429,
                    "too_many_connections",
                    f"the run has {self._most} connections open, and may have no more: close some",
                )
            await self._carry(request, bytes(data), size, self._rules, self._account)
        except Refused as error:
            if self._account is not None:
                self._account.refused(wanted, error.code, str(error))
            if self._wanted is None:
                await self._refuse(error)

    async def _head(self) -> tuple[bytearray, int]:
        """The first bytes of the client, and how many of them are the head."""
        data = bytearray()
        # letting it in was its turn, and mostly the head is here already
        with contextlib.suppress(BlockingIOError):
            data += self._client.recv(head.MOST)
            if not data:
                raise Broken("the client is gone")
            if (size := head.complete(data)) is not None:
                return data, size
        try:
            async with asyncio.timeout(self._net.patience):
                while True:
                    if data:
                        await self._turn()
                    more = await self._loop.sock_recv(self._client, head.MOST)
                    if not more:
                        raise Broken("the client is gone")
                    data += more
                    if (size := head.complete(data)) is not None:
                        return data, size
        except TimeoutError:
            raise Broken("no head in time") from None

    async def _carry(self, request: Head, data: bytes, size: int, rules: Rules, account: Account) -> None:
        wanted = request.wanted
        plain = not request.connect
        rules.check(wanted, plain=plain)
        found, public = await self._find(wanted, rules)
        # what is not public is in the operator's own network: the way out of that is none to it
        proxy = self._net.proxies.of(wanted, found, plain=plain) if public else None
        if proxy is None and not found:
            raise Refused(502, "unknown_host", f"{wanted.host}: its name can't be resolved")
        remote, rest = await self._dial(wanted, found, proxy, plain)
        self._call = call = account.begin(wanted)
        self._touch()

        def counted(sent: int, received: int) -> bool:
            self._touch()
            return call.moved(sent, received)

        if plain:
            exchange = Exchange(request, self._client, remote, self._turn, counted, self._memory, proxy)
            changed = await exchange.run(data)
            if changed is None:
                self._whole = True
                return
            early, rest = changed
        else:
            if self._wanted is None:
                await self._loop.sock_sendall(self._client, _CONNECTED)
            early = data[size:]
        net = self._net
        tunnel = Tunnel(
            net.rounds, self._container, self._client, remote, self._memory, net.pipes, counted, tcp=self._placed
        )
        self._whole = await tunnel.run(early, rest)

    async def _find(self, wanted: Target, rules: Rules) -> tuple[list[Address], bool]:
        """The addresses of `wanted`, all of them allowed, and whether they are public."""
        if wanted.address is not None:
            return [wanted.address], rules.admit(wanted, [wanted.address])
        try:
            found = await self._net.resolver.resolve(self._container, wanted.host)
        except Refused as error:
            if error.code != "unknown_host" or not upstream.outside(wanted):
                raise
            if self._net.proxies.of(wanted, [], plain=False) is None:
                raise
            # a network whose names only its proxy resolves
            return [], True
        return found, rules.admit(wanted, found)

    async def _dial(
        self, wanted: Target, found: list[Address], proxy: Proxy | None, plain: bool
    ) -> tuple[socket.socket, bytes]:
        if proxy is None:
            self._remote = await self._net.dialer.dial(wanted, found)
            return self._remote, b""
        self._remote = await self._net.dialer.dial_proxy(proxy)
        if plain:
            return self._remote, b""
        return self._remote, await upstream.tunnel(self._remote, proxy, wanted)

    async def _turn(self) -> None:
        await self._net.rounds.turn(self._container)
        self._touch()

    def _touch(self) -> None:
        self.touched = self._loop.time()

    async def _refuse(self, error: Refused) -> None:
        text = f"samovar: {error}\n".encode("utf-8", "replace")
        lines = [
            f"HTTP/1.1 {error.status} {_REASONS.get(error.status, 'Refused')}",
            f"X-Samovar-Refused: {error.code}",
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(text)}",
            "Connection: close",
        ]
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LINGER):
                await self._loop.sock_sendall(self._client, "\r\n".join([*lines, "", ""]).encode() + text)
                self._client.shutdown(socket.SHUT_WR)
                # closed with something unread, it would be reset, and the answer lost with it
                left = _LINGERED
                while left > 0 and (more := await self._loop.sock_recv(self._client, 64 * 1024)):
                    left -= len(more)
                self._whole = True
