"""What a container may do to the proxy and to its neighbours: slow, half-open, huge, many, smuggling."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
import time
from pathlib import Path

import pytest

from sidecar.egress import head
from sidecar.egress.messages import Line
from tests.unit.sidecar.egress.world import Client, World, echo, heard, world
from tests.waiting import eventually_async

API = "api.example.com:443"


async def serving(w: World, **limits: object) -> None:
    await w.serve(echo, 443, name="api.example.com")
    await w.listen(mode="public", **limits)
    await w.open()


def test_a_head_that_does_not_come_is_not_waited_for() -> None:
    async def scenario() -> None:
        async with world() as w:
            w.server.net.patience = 0.2
            await serving(w)
            silent, slow = await w.visit(), await w.visit()
            slow.writer.write(b"CONNECT api.exa")
            assert await silent.closed() == b""
            assert await slow.closed() == b""
            assert w.dialled == []

    asyncio.run(scenario())


def test_a_head_that_comes_byte_by_byte_has_the_same_deadline() -> None:
    async def scenario() -> None:
        async with world() as w:
            w.server.net.patience = 0.3
            await serving(w)
            client = await w.visit()
            began = time.monotonic()

            async def drip() -> None:
                with contextlib.suppress(ConnectionError):
                    while True:
                        client.writer.write(b"x")
                        await client.writer.drain()
                        await asyncio.sleep(0.01)

            dripping = asyncio.create_task(drip())
            assert await client.closed() == b""
            assert time.monotonic() - began < 5
            dripping.cancel()

    asyncio.run(scenario())


def test_a_huge_head_is_refused_at_16_kib() -> None:
    async def scenario() -> None:
        async with world() as w:
            await serving(w)
            answer = await w.ask(b"GET http://api.example.com/ HTTP/1.1\r\nX: " + b"x" * 200_000)
            assert (answer.status, answer.refused) == (431, "head_too_large")
            assert head.MOST == 16 * 1024

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "request_",
    [
        "PUT http://a.com/ HTTP/1.1\r\nHost: a.com\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        "GET http://a.com/ HTTP/1.1\r\nHost: a.com\r\nHost: b.com\r\n\r\n",
        "GET http://a.com/ HTTP/1.1\r\nHost: b.com\r\n\r\n",
        "GET http://a.com/ HTTP/1.1\r\nHost: a.com\r\n X: folded\r\n\r\n",
        "GET http://a.com/ HTTP/1.1\nHost: a.com\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.com\r\n\r\n",
        "GET http://a.com@b.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n",
        "CONNECT a.com:80 HTTP/1.1\r\nHost: a.com:80\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
def test_smuggling_reaches_nobody(request_: str) -> None:
    async def scenario() -> None:
        async with world() as w:
            for name in ("a.com", "b.com"):
                await w.serve(heard, 80, name=name)
            await w.listen(mode="public", ports=[80])
            await w.open()
            answer = await w.ask(request_)
            assert (answer.status, answer.refused) == (400, "bad_request")
            assert w.dialled == []
            assert w.of(Line)[0].level == "warning"

    asyncio.run(scenario())


def test_a_second_request_of_a_connection_is_not_carried_out() -> None:
    async def scenario() -> None:
        async with world() as w:
            for name in ("a.com", "b.com"):
                await w.serve(heard, 80, name=name)
            await w.listen(mode="public")
            await w.open()
            second = "GET http://b.com/ HTTP/1.1\r\nHost: b.com\r\n\r\n"
            answer = await w.ask(f"GET http://a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n{second}")
            assert answer.status == 200
            assert b"b.com" not in answer.body
            assert w.asked == ["a.com"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "chunk", ["5\nabcde", "+5\r\nabcde", "0x5\r\nabcde", "5 5\r\nabcde", "ffffffffffffffffffff1\r\na", "-1\r\na"]
)
def test_a_body_in_odd_chunks_is_no_body(chunk: str) -> None:
    async def scenario() -> None:
        async with world() as w:
            got: list[bytes] = []

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                got.append(await reader.read())

            await w.serve(serve, 80, name="a.com")
            await w.listen(mode="public")
            await w.open()
            client = await w.visit()
            client.writer.write(b"POST http://a.com/ HTTP/1.1\r\nHost: a.com\r\nTransfer-Encoding: chunked\r\n\r\n")
            client.writer.write(f"{chunk}\r\n".encode())
            client.writer.write(b"0\r\n\r\n")
            answer = await client.head()
            assert answer.status == 502
            await eventually_async(lambda: got, "the end of the request")
            assert got[0].partition(b"\r\n\r\n")[2] in (b"", b"5\r\nabcde\r\n")
            assert not got[0].endswith(b"0\r\n\r\n") or chunk == "5\nabcde"

    asyncio.run(scenario())


def test_an_answer_cannot_be_more_than_one() -> None:
    async def scenario() -> None:
        async with world() as w:

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmore"
                )

            await w.serve(serve, 80, name="a.com")
            await w.listen(mode="public")
            await w.open()
            answer = await w.ask("GET http://a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n")
            assert answer.body == b"ok"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "answer_",
    [
        b"",
        b"rubbish\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 101 Now\r\nUpgrade: h2c\r\n\r\n",
    ],
)
def test_an_answer_that_is_none_is_said_to_be(answer_: bytes) -> None:
    async def scenario() -> None:
        async with world() as w:

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer_)

            await w.serve(serve, 80, name="a.com")
            await w.listen(mode="public")
            await w.open()
            answer = await w.ask("GET http://a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n")
            assert (answer.status, answer.refused) == (502, "bad_answer")

    asyncio.run(scenario())


def test_a_redirect_is_a_request_of_its_own_and_checked_as_one() -> None:
    async def scenario() -> None:
        async with world() as w:

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(
                    b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"
                )

            await w.serve(serve, 80, name="a.com")
            await w.listen(mode="public")
            await w.open()
            first = await w.ask("GET http://a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n")
            assert (first.status, first.fields["location"]) == (302, "http://169.254.169.254/")
            second = await w.ask("GET http://169.254.169.254/ HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n")
            assert (second.status, second.refused) == (403, "not_public")
            assert len(w.dialled) == 1

    asyncio.run(scenario())


def test_names_are_no_tunnel_where_they_are_not_allowed() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.listen(mode="list", hosts=["api.example.com:443"])
            await w.open()
            for n in range(50):
                answer, _ = await w.connect_to(f"secret-{n}.evil.example.com:443")
                assert answer.refused == "not_allowed"
            for text in ("api.example.com:53", "api.example.com:22", "x.api.example.com:443"):
                answer, _ = await w.connect_to(text)
                assert answer.status == 403
            assert w.asked == []
            # nor does the log become one: the refusals are summed up
            await w.close()
            assert len(w.of(Line)) < 130

    asyncio.run(scenario())


def test_a_slow_reader_holds_nobody_and_little_memory() -> None:
    async def scenario() -> None:
        async with world() as w:

            async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while True:
                    writer.write(b"x" * 65536)
                    await writer.drain()

            await w.serve(pour, 443, name="pour.example.com")
            await w.serve(echo, 443, name="api.example.com", address="93.184.216.35")
            await w.listen(mode="public")
            await w.open()
            slow = [await w.tunnel("pour.example.com:443") for _ in range(240)]
            for client in slow:
                client.reader._transport.pause_reading()  # type: ignore[attr-defined]
            client = await w.tunnel(API)
            for _ in range(20):
                client.writer.write(b"x" * 10_000)
                assert len(await client.reader.readexactly(10_000)) == 10_000
            door = w.server._doors["c1"]
            await eventually_async(lambda: door._memory.used > 3 * 1024 * 1024, "bytes that nobody takes")
            for _ in range(100):
                client.writer.write(b"x" * 10_000)
                assert len(await client.reader.readexactly(10_000)) == 10_000
            assert 0 < door._memory.used <= 4 * 1024 * 1024 + 241 * 4096
            assert w.server.net.memory.used == door._memory.used
            await w.close()
            assert (door._memory.used, w.server.net.memory.used) == (0, 0)

    asyncio.run(scenario())


def test_an_end_that_resets_ends_the_other() -> None:
    async def scenario() -> None:
        async with world() as w:

            async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readexactly(1)
                made: socket.socket = writer.get_extra_info("socket")
                made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

            await w.serve(reset, 443, name="api.example.com")
            await w.listen(mode="public")
            await w.open()
            client = await w.tunnel(API)
            client.writer.write(b"x")
            assert await client.closed() == b""
            await eventually_async(lambda: w.server._doors["c1"].connections == 0, "the connection to end")

    asyncio.run(scenario())


def test_connections_beyond_all_numbers_wait_outside_and_leave_no_descriptors() -> None:
    async def scenario() -> None:
        async with world() as w:
            await serving(w, connections=4)
            open_files = Path("/proc/self/fd")
            before = len(os.listdir(open_files))
            clients: list[socket.socket] = []
            for _ in range(100):
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                sock.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    sock.connect(str(w.directory / "c1.sock"))
                clients.append(sock)
            door = w.server._doors["c1"]
            await eventually_async(lambda: door.connections == 20, "as many as are let in")
            await asyncio.sleep(0)
            assert door.connections == 20
            for sock in clients:
                sock.close()
            await eventually_async(lambda: door.connections == 0, "all to leave")
            await w.tunnel(API)
            await w.close()
            await eventually_async(lambda: len(os.listdir(open_files)) <= before + 4, "the descriptors")

    asyncio.run(scenario())


def test_a_connection_that_ends_before_it_begins_leaves_its_place() -> None:
    async def scenario() -> None:
        async with world() as w:
            await serving(w)
            door = w.server._doors["c1"]
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.connect(str(w.directory / "c1.sock"))
                door._accept(door._entrances[0])
                assert door.connections == 1
                closed = door.close("a1")
                assert closed is not None
                await asyncio.wait(closed[1])
                assert door.connections == 0
                assert sock.recv(1) == b""

    asyncio.run(scenario())


def test_where_no_descriptors_are_left_nobody_is_let_in_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with world() as w:
            await serving(w)
            tried = 0

            def accepted(entrance: object) -> socket.socket | None:
                nonlocal tried
                tried += 1
                raise OSError(errno.EMFILE, "Too many open files")

            with monkeypatch.context() as full:
                full.setattr("sidecar.egress.door._accepted", accepted)
                full.setattr("sidecar.egress.door._BREATH", 0.05)
                client = await w.visit()
                await eventually_async(lambda: tried > 2, "some tries")
                assert tried < 50
            client.writer.write(f"CONNECT {API} HTTP/1.1\r\nHost: {API}\r\n\r\n".encode())
            assert (await client.head()).status == 200

    asyncio.run(scenario())


def test_slow_readers_of_plain_http_count_too() -> None:
    async def scenario() -> None:
        async with world() as w:
            size = 200 * 1024

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (100 * size))
                for _ in range(100):
                    writer.write(b"x" * size)
                    await writer.drain()

            await w.serve(serve, 80, name="a.com")
            await w.listen(mode="public")
            await w.open()
            client = await w.visit()
            client.writer.write(b"GET http://a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n")
            assert (await client.head()).status == 200
            door = w.server._doors["c1"]
            await eventually_async(lambda: door._memory.used, "bytes that nobody takes")
            assert len(await client.reader.readexactly(100 * size)) == 100 * size
            assert await client.reader.read() == b""
            await eventually_async(lambda: door._memory.used == 0, "nothing to be left")

    asyncio.run(scenario())


def test_the_log_of_a_flood_is_bounded_and_its_counts_are_whole() -> None:
    async def scenario() -> None:
        async with world() as w:
            await serving(w)
            for n in range(300):
                client = await w.tunnel(API)
                client.writer.close()
                answer, _ = await w.connect_to(f"h{n}.example.com:{n + 1000}")
                assert answer.status == 403
            await w.close()
            assert len(w.of(Line)) <= 240
            assert any(line.startswith(f"{API}: 297 more connections") for line in w.lines)
            assert any("more requests were refused" in line for line in w.lines)
            counts = w.counts()
            assert counts[API].connections == 300
            assert len(counts) == 101
            assert sum(count.refused for count in counts.values()) == 300
            assert counts["others:0"].refused == 201

    asyncio.run(scenario())


def test_a_neighbour_is_served_as_if_the_flood_were_one_connection_more() -> None:
    """Rounds: a container with forty busy connections has one step for each step of a container with one."""

    async def scenario() -> None:
        async with world() as w:
            got: dict[str, int] = {"flood": 0, "quiet": 0}
            for container, busy in (("flood", 40), ("quiet", 1)):
                await w.listen(container, mode="public")
                await w.open(container, attempt=container)
                for _ in range(busy):
                    await _pouring(w, container, got)
            rounds = w.server.net.rounds
            # every socket has something to read: who is read, is for the rounds to say
            before = dict(got)
            await eventually_async(lambda: sum(got.values()) - sum(before.values()) > 400, "some steps")
            steps = {name: got[name] - before[name] for name in got}
            assert steps["quiet"] > steps["flood"] / 2, steps
            assert rounds.waiting

    asyncio.run(scenario())


async def _pouring(w: World, container: str, got: dict[str, int]) -> None:
    """A step of `container` that never has enough."""

    def step() -> bool:
        got[container] += 1
        time.sleep(0.0001)
        return not w.server._over.done()

    w.server.net.rounds.add(container, step)


def test_what_is_sent_before_the_answer_is_not_lost() -> None:
    async def scenario() -> None:
        async with world() as w:
            await serving(w)
            client: Client = await w.visit()
            client.writer.write(f"CONNECT {API} HTTP/1.1\r\nHost: {API}\r\n\r\nearly".encode())
            assert (await client.head()).status == 200
            assert await client.reader.readexactly(5) == b"early"

    asyncio.run(scenario())
