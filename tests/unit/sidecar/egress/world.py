"""The egress process in this one: its server over a socket pair, with names and addresses that a test makes up."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sidecar.egress import dial, messages
from sidecar.egress.addresses import Address
from sidecar.egress.dial import Dialer
from sidecar.egress.messages import Close, Closed, Counts, Down, Forget, Line, Listen, Listening, Open, Splitter, Up
from sidecar.egress.resolver import HostResolver, HostsFile
from sidecar.egress.rules import Limits
from sidecar.egress.server import Server
from tests.waiting import eventually_async

#: A public address that is nobody's in these tests: every connection to it is led to a server on loopback.
PUBLIC = "93.184.216.34"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Answer:
    """Of the proxy: status, fields in lower case, and all that came after the head."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def refused(self) -> str | None:
        return self.fields.get("x-samovar-refused")


@dataclass
class World:
    server: Server
    directory: Path
    control: socket.socket
    #: What names resolve to, and how often each was asked for.
    names: dict[str, list[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    #: Where connections to an address and port are led; elsewhere they are refused.
    servers: dict[tuple[str, int], int] = field(default_factory=dict)
    dialled: list[tuple[str, int]] = field(default_factory=list)
    heard: list[Up] = field(default_factory=list)
    listening: list[asyncio.Server] = field(default_factory=list)

    def lookup(self, name: str) -> list[Address]:
        self.asked.append(name)
        found = self.names.get(name)
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [ipaddress.ip_address(text) for text in found]

    async def connect(self, address: Address, port: int) -> socket.socket:
        self.dialled.append((str(address), port))
        led = self.servers.get((str(address), port))
        if led is None:
            raise ConnectionRefusedError(111, "Connection refused")
        return await dial.connect(ipaddress.ip_address("127.0.0.1"), led)

    async def serve(self, serve: Serve, port: int, *, name: str | None = None, address: str = PUBLIC) -> None:
        """A server that is reached as `address`, and under `name`."""

        async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await serve(reader, writer)
            writer.close()

        server = await asyncio.start_server(once, "127.0.0.1", 0)
        self.listening.append(server)
        self.servers[address, port] = server.sockets[0].getsockname()[1]
        if name is not None:
            self.names.setdefault(name, []).append(address)

    def say(self, message: Down) -> None:
        self.control.sendall(messages.encode(message))

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.heard if isinstance(message, kind)]

    @property
    def lines(self) -> list[str]:
        return [line.message for line in self.of(Line)]

    async def listen(self, container: str = "c1", **limits: Any) -> None:
        path = self.directory / f"{container}.sock"
        before = len(self.of(Listening))
        self.say(Listen(container, str(path), Limits(**limits)))
        await eventually_async(lambda: len(self.of(Listening)) > before, "an answer to listen")
        assert self.of(Listening)[-1].problem is None, self.of(Listening)[-1].problem

    async def open(self, container: str = "c1", attempt: str = "a1", spent: int = 0) -> None:
        self.say(Open(container, attempt, spent))
        door = self.server._doors[container]
        await eventually_async(lambda: door.account and door.account.attempt == attempt, "the attempt to be bound")

    async def close(self, container: str = "c1", attempt: str = "a1") -> None:
        self.say(Close(container, attempt))
        await eventually_async(
            lambda: any(c.attempt == attempt and c.container == container for c in self.of(Closed)),
            "the attempt to be over",
        )

    def forget(self, container: str = "c1") -> None:
        self.say(Forget(container))

    def counts(self, attempt: str = "a1") -> dict[str, Any]:
        """The last that was said of each host."""
        last = [c for c in self.of(Counts) if c.attempt == attempt][-1]
        return {f"{count.host}:{count.port}": count for count in last.hosts}

    async def visit(self, container: str = "c1") -> Client:
        return Client(*await asyncio.open_unix_connection(self.directory / f"{container}.sock"))

    async def ask(self, request: bytes | str, container: str = "c1") -> Answer:
        """What the proxy says to `request`, until it closes the connection."""
        client = await self.visit(container)
        return await client.ask(request)

    async def connect_to(self, target: str, container: str = "c1") -> tuple[Answer, Client]:
        client = await self.visit(container)
        client.writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        head = await client.head()
        if head.status != 200:
            head.body = await client.reader.read()
        return head, client

    async def tunnel(self, target: str, container: str = "c1") -> Client:
        answer, client = await self.connect_to(target, container)
        assert answer.status == 200, answer
        return client


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, request: bytes | str) -> Answer:
        self.writer.write(request.encode() if isinstance(request, str) else request)
        answer = await self.head()
        answer.body = await self.reader.read()
        self.writer.close()
        return answer

    async def head(self) -> Answer:
        data = await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = data.decode("latin-1").strip().split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Answer(int(status.split()[1]), fields, b"")

    async def closed(self) -> bytes:
        """What comes until the connection is closed."""
        with contextlib.suppress(ConnectionError):
            return await self.reader.read()
        return b""


@contextlib.asynccontextmanager
async def world(environment: dict[str, str] | None = None, hosts: Path | None = None) -> AsyncIterator[World]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with tempfile.TemporaryDirectory() as directory, ours, theirs:
        server = Server(theirs, environment or {}, hosts)
        w = World(server, Path(directory), ours)
        server.net.resolver = HostResolver(HostsFile(hosts), lookup=w.lookup)
        server.net.dialer = Dialer(connect=w.connect)
        running = asyncio.create_task(server.run())
        hearing = asyncio.create_task(_hear(w))
        try:
            yield w
        finally:
            ours.shutdown(socket.SHUT_WR)
            await asyncio.wait_for(running, 10)
            hearing.cancel()
            for one in w.listening:
                one.close()
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task() and task is not hearing]
    await asyncio.wait(left or [asyncio.create_task(asyncio.sleep(0))], timeout=5)


async def _hear(w: World) -> None:
    splitter = Splitter()
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(w.control, 65536):
        w.heard += [messages.up(line) for line in splitter.feed(data)]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says back what it hears, and ends when it does."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def heard(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers an HTTP request with all that it has heard, as it came."""
    data = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in data.lower().split(b"\r\n") if line.startswith(b"content-length")), 0
    )
    if b"transfer-encoding: chunked" in data.lower():
        data += await reader.readuntil(b"0\r\n\r\n")
    else:
        data += await reader.readexactly(length)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Kept: yes\r\n\r\n" % len(data) + data)
    await writer.drain()
