"""What clients do with the proxy: TLS with names intact, HTTP in its variants, WebSocket, many at once."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sidecar.egress.authority import contexts
from tests.unit.sidecar.egress.world import PUBLIC, Answer, World, echo, world

NAME = "api.example.com"


async def secured(w: World, server: ssl.SSLContext) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = writer.get_extra_info("ssl_object").version().encode() * 100_000
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    made = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server)
    w.listening.append(made)
    w.servers[PUBLIC, 443] = made.sockets[0].getsockname()[1]
    w.names[NAME] = [PUBLIC]


class Proxied(http.client.HTTPSConnection):
    """http.client as it speaks to any proxy, over the container's socket."""

    path = ""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)
        self._tunnel()  # type: ignore[attr-defined]
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self._tunnel_host)  # type: ignore[attr-defined]


def test_tls_goes_through_with_its_names_intact(tmp_path: Path) -> None:
    server, client = contexts(NAME, tmp_path)

    async def scenario() -> None:
        async with world() as w:
            await secured(w, server)
            w.names["other.example.com"] = [PUBLIC]
            await w.listen(mode="public")
            await w.open()

            def ask(name: str) -> tuple[int, bytes]:
                connection = Proxied("proxy", context=client, timeout=20)
                connection.path = str(w.directory / "c1.sock")
                connection.set_tunnel(name, 443)
                connection.request("GET", "/")
                answer = connection.getresponse()
                return answer.status, answer.read()

            status, body = await asyncio.to_thread(ask, NAME)
            assert (status, body) == (200, b"TLSv1.3" * 100_000)
            # the client sees whose certificate it is: the proxy is no man in the middle
            with pytest.raises(ssl.SSLCertVerificationError, match=r"other\.example\.com"):
                await asyncio.to_thread(ask, "other.example.com")

    asyncio.run(scenario())


async def plain(w: World, serve: Any) -> None:
    await w.serve(serve, 80, name=NAME)
    await w.listen(mode="public")
    await w.open()


def answering(*parts: bytes) -> Any:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()

    return serve


async def ask(w: World, method: str = "GET", version: str = "HTTP/1.1", more: str = "") -> Answer:
    return await w.ask(f"{method} http://{NAME}/ {version}\r\nHost: {NAME}\r\n{more}\r\n")


def test_an_answer_without_a_length_goes_on_until_its_end() -> None:
    async def scenario() -> None:
        async with world() as w:
            await plain(w, answering(b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\nfirst second"))
            assert (await ask(w)).body == b"c\r\nfirst second\r\n0\r\n\r\n"
            assert (await ask(w, version="HTTP/1.0")).body == b"first second"

    asyncio.run(scenario())


def test_an_answer_in_chunks_comes_in_chunks() -> None:
    async def scenario() -> None:
        async with world() as w:
            await plain(
                w,
                answering(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 99\r\nConnection: x-hop\r\n"
                    b"X-Hop: 1\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n5\r\nabcde\r\n0\r\nTrailer: 1\r\n\r\n"
                ),
            )
            answer = await ask(w)
            assert answer.body == b"5\r\nabcde\r\n0\r\n\r\n"
            assert answer.fields["transfer-encoding"] == "chunked"
            assert "content-length" not in answer.fields
            assert "x-hop" not in answer.fields
            assert answer.fields["connection"] == "close"

    asyncio.run(scenario())


def test_a_head_alone_and_answers_that_have_no_body() -> None:
    async def scenario() -> None:
        async with world() as w:
            await plain(w, answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"))
            answer = await ask(w, method="HEAD")
            assert (answer.fields["content-length"], answer.body) == ("5", b"")
            for status in (204, 304):
                await w.serve(answering(b"HTTP/1.1 %d X\r\nETag: x\r\n\r\n" % status), 80)
                answer = await ask(w)
                assert (answer.status, answer.fields["etag"], answer.body) == (status, "x", b"")

    asyncio.run(scenario())


def test_a_client_that_waits_for_100_gets_it_and_sends_its_body() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(5)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body[::-1])

    async def scenario() -> None:
        async with world() as w:
            await plain(w, serve)
            client = await w.visit()
            client.writer.write(f"PUT http://{NAME}/ HTTP/1.1\r\nHost: {NAME}\r\n".encode())
            client.writer.write(b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            assert (await client.head()).status == 100
            client.writer.write(b"hello")
            assert (await client.head()).status == 200
            assert await client.reader.read() == b"olleh"

    asyncio.run(scenario())


def test_a_request_can_become_a_websocket() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert b"upgrade: websocket" in head
        assert b"connection: upgrade" in head
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nearly ")
        await echo(reader, writer)

    async def scenario() -> None:
        async with world() as w:
            await plain(w, serve)
            client = await w.visit()
            client.writer.write(
                f"GET http://{NAME}/ws HTTP/1.1\r\nHost: {NAME}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                "Sec-WebSocket-Key: x\r\n\r\n".encode()
            )
            answer = await client.head()
            assert (answer.status, answer.fields["upgrade"]) == (101, "websocket")
            client.writer.write(b"frame")
            assert await client.reader.readexactly(11) == b"early frame"
            client.writer.write_eof()
            assert await client.reader.read() == b""
            await w.close()
            count = w.counts()[f"{NAME}:80"]
            assert count.sent > 5
            assert count.received > 11

    asyncio.run(scenario())


def test_fifty_connections_of_a_run_at_once() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.serve(echo, 443, name=NAME)
            await w.listen(mode="public")
            await w.open()
            clients = await asyncio.gather(*(w.tunnel(f"{NAME}:443") for _ in range(50)))

            async def talk(n: int) -> bytes:
                client = clients[n]
                for _ in range(20):
                    client.writer.write(bytes([n]) * 5000)
                    got = await client.reader.readexactly(5000)
                    assert got == bytes([n]) * 5000
                return got[:1]

            assert await asyncio.gather(*map(talk, range(50))) == [bytes([n]) for n in range(50)]
            await w.close()
            count = w.counts()[f"{NAME}:443"]
            assert (count.connections, count.sent, count.received) == (50, 5_000_000, 5_000_000)

    asyncio.run(scenario())


def test_threads_stay_out_of_it() -> None:
    """All of a host's connections are in one loop: a thread is had for names alone."""

    async def scenario() -> None:
        async with world() as w:
            await w.serve(echo, 443, name=NAME)
            await w.listen(mode="public")
            await w.open()
            before = set(threading.enumerate())
            for _ in range(20):
                await w.tunnel(f"{NAME}:443")
            added = [t.name for t in threading.enumerate() if t not in before]
            assert len(added) < 20
            assert {name.partition("_")[0] for name in added} <= {"resolver", "asyncio"}

    asyncio.run(scenario())
