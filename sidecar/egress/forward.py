"""Plain HTTP: one request of a container and its answer, each read and written anew by h11."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

import h11

from sidecar.egress.errors import Broken, Refused
from sidecar.egress.head import Head
from sidecar.egress.memory import Memory
from sidecar.egress.upstream import Proxy

_READ = 64 * 1024
_LARGEST_ANSWER_HEAD = 64 * 1024
_HOP = frozenset(b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade".split())

#: Waits for the turn of the container.
Turn = Callable[[], Awaitable[None]]
#: Counts (sent, received) bytes before they are passed on; whether they may be.
Counted = Callable[[int, int], bool]


class Exchange:
    """Sends `head` and the body that comes after it to `remote`; passes the answer on to `client`."""

    def __init__(
        self,
        head: Head,
        client: socket.socket,
        remote: socket.socket,
        turn: Turn,
        counted: Counted,
        memory: Memory,
        proxy: Proxy | None = None,
    ) -> None:
        self._head = head
        self._client = client
        self._remote = remote
        self._turn = turn
        self._counted = counted
        self._memory = memory
        #: Bytes that were read last of each end: until the next are, they are here.
        self._here = {client: 0, remote: 0}
        self._proxy = proxy
        self._asked = h11.Connection(h11.SERVER, max_incomplete_event_size=_READ)
        self._asking = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LARGEST_ANSWER_HEAD)
        #: Whether the client has got a part of an answer already.
        self.answered = False

    async def run(self, data: bytes) -> tuple[bytes, bytes] | None:
        """`data`: the client's bytes so far, head and all. Gives what came after, of both, where protocols change.

        Raises Refused while the client can be answered yet, else Broken.
        """
        try:
            self._asked.receive_data(data)
            event = self._asked.next_event()
            if not isinstance(event, h11.Request) or event.method.decode() != self._head.method:
                raise Refused(400, "bad_request", "the request can't be understood")
            request = self._request()
        except h11.ProtocolError as error:
            raise Refused(400, "bad_request", f"the request can't be understood: {error}") from None
        await self._give(request)
        sending = asyncio.create_task(self._send())
        try:
            return await self._answer()
        except h11.ProtocolError as error:
            raise self._failed(f"{self._head.wanted} answered what is no HTTP: {error}") from None
        except OSError as error:
            raise self._failed(f"the connection to {self._head.wanted} was lost: {error.strerror}") from None
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await sending
            for sock in self._here:
                self._hold(sock, 0)

    def _failed(self, text: str) -> Refused | Broken:
        return Broken(text) if self.answered else Refused(502, "bad_answer", text)

    def _request(self) -> h11.Request:
        head = self._head
        fields = [(b"Host", head.host), *head.fields]
        if head.length is not None:
            fields.append((b"Content-Length", str(head.length).encode()))
        if head.chunked:
            fields.append((b"Transfer-Encoding", b"chunked"))
        if head.upgrade is not None:
            fields += [(b"Connection", b"Upgrade"), (b"Upgrade", head.upgrade)]
        else:
            fields.append((b"Connection", b"close"))
        place = head.path
        if self._proxy is not None:
            place = f"http://{head.host.decode()}{head.path}"
            if self._proxy.authorization is not None:
                fields.append((b"Proxy-Authorization", self._proxy.authorization))
        return h11.Request(method=head.method, target=place, headers=fields)

    async def _send(self) -> None:
        """The body, as far as anybody wants it."""
        try:
            while True:
                event = self._asked.next_event()
                if event is h11.NEED_DATA:
                    self._asked.receive_data(await self._recv(self._client))
                elif isinstance(event, h11.Data):
                    await self._give(event)
                elif isinstance(event, h11.EndOfMessage):
                    await self._give(h11.EndOfMessage())
                    return
                else:
                    return
        except (h11.ProtocolError, OSError, Broken):
            # half a body is no request: the other end is not to take it for a whole one
            with contextlib.suppress(OSError):
                self._remote.shutdown(socket.SHUT_RDWR)

    async def _give(self, event: h11.Event) -> None:
        data = self._asking.send(event)
        if data:
            self._count(len(data), 0)
            await asyncio.get_running_loop().sock_sendall(self._remote, data)

    async def _answer(self) -> tuple[bytes, bytes] | None:
        while True:
            event = self._asking.next_event()
            if event is h11.NEED_DATA:
                self._asking.receive_data(await self._recv(self._remote))
            elif isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    if self._head.upgrade is None:
                        raise h11.RemoteProtocolError("it changes protocols unasked")
                    await self._say(event)
                    return self._asked.trailing_data[0], self._asking.trailing_data[0]
                await self._say(h11.InformationalResponse(status_code=event.status_code, headers=_kept(event)))
            elif isinstance(event, h11.Response):
                await self._say(self._response(event))
            elif isinstance(event, h11.Data):
                await self._say(event)
            elif isinstance(event, h11.EndOfMessage):
                await self._say(h11.EndOfMessage())
                return None
            else:
                raise h11.RemoteProtocolError("the answer has no end")

    def _response(self, event: h11.Response) -> h11.Response:
        chunked = any(name == b"transfer-encoding" for name, _ in event.headers)
        fields = [(n, v) for n, v in _kept(event) if not (chunked and n.lower() == b"content-length")]
        return h11.Response(
            status_code=event.status_code, reason=event.reason, headers=[*fields, (b"Connection", b"close")]
        )

    async def _say(self, event: h11.Event) -> None:
        try:
            data = self._asked.send(event)
        except h11.LocalProtocolError as error:
            raise h11.RemoteProtocolError(str(error)) from None
        if data:
            self._count(0, len(data))
            self.answered = True
            try:
                await asyncio.get_running_loop().sock_sendall(self._client, data)
            except OSError as error:
                raise Broken(str(error)) from None

    async def _recv(self, sock: socket.socket) -> bytes:
        await self._turn()
        self._hold(sock, 0)
        data = await asyncio.get_running_loop().sock_recv(sock, min(_READ, self._memory.size()))
        self._hold(sock, len(data))
        return data

    def _hold(self, sock: socket.socket, size: int) -> None:
        self._memory.take(size - self._here[sock])
        self._here[sock] = size

    def _count(self, sent: int, received: int) -> None:
        # as they are on the wire, heads and all
        if not self._counted(sent, received):
            raise Broken("the run has no bytes left")


def _kept(event: h11.Response | h11.InformationalResponse) -> list[tuple[bytes, bytes]]:
    options = {
        option.strip().lower()
        for name, value in event.headers
        if name == b"connection"
        for option in value.split(b",")
    }
    return [
        (raw, value)
        for raw, value in event.headers.raw_items()
        if raw.lower() not in _HOP and raw.lower() not in options - {b"content-length", b"set-cookie"}
    ]
