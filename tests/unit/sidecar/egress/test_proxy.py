"""Requests at a container's socket, and what becomes of them: a real server behind each address that is reached."""

from __future__ import annotations

import asyncio

from sidecar.egress.messages import Line
from tests.unit.sidecar.egress.world import echo, heard, world
from tests.waiting import eventually_async


def test_connect_carries_bytes_both_ways_and_a_half_close() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.serve(echo, 443, name="api.example.com")
            await w.listen(mode="list", hosts=["api.example.com:443"])
            await w.open()
            client = await w.tunnel("api.example.com:443")
            for size in (1, 70_000, 3_000_000):
                client.writer.write(b"x" * size)
                assert await client.reader.readexactly(size) == b"x" * size
            client.writer.write(b"the last")
            client.writer.write_eof()
            assert await client.reader.read() == b"the last"
            await w.close()
            count = w.counts()["api.example.com:443"]
            assert (count.connections, count.sent, count.received) == (1, 3_070_009, 3_070_009)
            assert w.lines[0].startswith("api.example.com:443: 3.1 MB sent, 3.1 MB received in ")

    asyncio.run(scenario())


def test_plain_http_is_forwarded_as_a_request_to_the_host_itself() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.serve(heard, 80, name="example.com")
            await w.listen(mode="public")
            await w.open()
            answer = await w.ask(
                "POST http://example.com/a?b=c HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\nX-Own: 1\r\n"
                "Connection: keep-alive, x-hop\r\nX-Hop: 1\r\nProxy-Authorization: Basic eDp5\r\n"
                "Proxy-Connection: keep-alive\r\nTE: trailers\r\n\r\nhello"
            )
            assert answer.status == 200
            assert answer.fields["connection"] == "close"
            assert answer.fields["x-kept"] == "yes"
            head, _, body = answer.body.partition(b"\r\n\r\n")
            assert body == b"hello"
            assert sorted(head.split(b"\r\n")) == [
                b"Connection: close",
                b"Content-Length: 5",
                b"Host: example.com",
                b"POST /a?b=c HTTP/1.1",
                b"X-Own: 1",
            ]

    asyncio.run(scenario())


def test_a_body_in_chunks_goes_on_in_chunks() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.serve(heard, 80, name="example.com")
            await w.listen(mode="public")
            await w.open()
            answer = await w.ask(
                "PUT http://example.com/ HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n"
                "3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: x\r\n\r\n"
            )
            body = answer.body.partition(b"\r\n\r\n")[2]
            assert body == b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"

    asyncio.run(scenario())


def test_what_is_not_allowed_is_refused_with_the_line_to_add() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.listen(mode="list", hosts=["api.example.com:443"])
            await w.open()
            answer, _ = await w.connect_to("other.example.com:443")
            assert (answer.status, answer.refused) == (403, "not_allowed")
            assert b'add "other.example.com:443" to @task(network=[' in answer.body
            assert w.asked == []  # a name that is not allowed is not resolved
            await eventually_async(lambda: w.of(Line), "the refusal in the log")
            assert (w.of(Line)[0].level, w.lines[0]) == ("warning", answer.body.decode().strip()[9:])

    asyncio.run(scenario())


def test_nothing_is_served_before_an_attempt_or_after_it() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.serve(echo, 443, name="api.example.com")
            await w.listen(mode="public")
            answer, _ = await w.connect_to("api.example.com:443")
            assert (answer.status, answer.refused) == (503, "no_run")
            await w.open()
            during = await w.tunnel("api.example.com:443")
            half = await w.visit()
            half.writer.write(b"CONNECT api")
            await eventually_async(lambda: w.server._doors["c1"].connections == 2, "both connections")
            await w.close()
            assert await during.closed() == b""
            assert await half.closed() == b""
            answer, _ = await w.connect_to("api.example.com:443")
            assert answer.refused == "no_run"
            assert len(w.dialled) == 1

    asyncio.run(scenario())


def test_who_came_before_an_attempt_is_not_served_by_it() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.serve(echo, 443, name="api.example.com")
            await w.listen(mode="public")
            early = await w.visit()
            early.writer.write(b"CONNECT api.example.com:443 HTTP/1.1\r\n")
            await eventually_async(lambda: w.server._doors["c1"].connections == 1, "the connection")
            await w.open(attempt="a2")
            # at once, and not when its patience ends
            assert await asyncio.wait_for(early.closed(), 5) == b""
            assert not w.dialled

    asyncio.run(scenario())


def test_a_run_has_so_many_bytes() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.serve(echo, 443, name="api.example.com")
            await w.listen(mode="public", bytes=100_000)
            await w.open(spent=40_000)
            client = await w.tunnel("api.example.com:443")
            client.writer.write(b"x" * 20_000)
            assert len(await client.reader.readexactly(20_000)) == 20_000
            client.writer.write(b"x" * 30_000)
            await client.closed()
            answer, _ = await w.connect_to("api.example.com:443")
            assert (answer.status, answer.refused) == (429, "too_many_bytes")
            await w.close()
            assert any("may 100 kB" in line for line in w.lines), w.lines

    asyncio.run(scenario())


def test_a_run_has_so_many_connections() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.serve(echo, 443, name="api.example.com")
            await w.listen(mode="public", connections=2)
            await w.open()
            first, _ = await w.tunnel("api.example.com:443"), await w.tunnel("api.example.com:443")
            answer, _ = await w.connect_to("api.example.com:443")
            assert (answer.status, answer.refused) == (429, "too_many_connections")
            first.writer.close()
            await eventually_async(lambda: w.server._doors["c1"].connections == 1, "one to end")
            await w.tunnel("api.example.com:443")

    asyncio.run(scenario())


def test_an_idle_connection_ends() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.serve(echo, 443, name="api.example.com")
            await w.listen(mode="public", idle=0.2)
            await w.open()
            client = await w.tunnel("api.example.com:443")
            assert await client.closed() == b""

    asyncio.run(scenario())
