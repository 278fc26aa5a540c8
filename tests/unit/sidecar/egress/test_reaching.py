"""From a name to a connection: resolved once and pinned, the first address that answers, the host's own proxy."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from sidecar.egress import dial
from sidecar.egress.addresses import Address
from sidecar.egress.dial import Dialer, interleaved
from sidecar.egress.errors import Refused
from sidecar.egress.names import target
from sidecar.egress.resolver import HostResolver, HostsFile
from sidecar.egress.upstream import Proxies, outside
from tests.unit.sidecar.egress.world import PUBLIC, World, echo, world


def ip(*texts: str) -> list[Address]:
    return [ipaddress.ip_address(text) for text in texts]


# ------------------------------------------------------------ names


def test_the_hosts_file_comes_first_and_is_read_again_when_it_changes(tmp_path: Path) -> None:
    asked: list[str] = []

    def lookup(name: str) -> list[Address]:
        asked.append(name)
        return ip("1.1.1.1")

    async def scenario() -> None:
        file = tmp_path / "hosts"
        resolver = HostResolver(HostsFile(file), lookup=lookup)
        assert await resolver.resolve("c", "a.internal") == ip("1.1.1.1")  # no file yet
        file.write_text(
            "10.0.0.7 A.internal. b.internal # a comment\n\n# 10.0.0.9 c.internal\nfd12::1\ta.internal\nx y\n"
        )
        assert await resolver.resolve("c", "a.internal") == ip("10.0.0.7", "fd12::1")
        assert await resolver.resolve("c", "b.internal") == ip("10.0.0.7")
        assert await resolver.resolve("c", "c.internal") == ip("1.1.1.1")
        replaced = tmp_path / "new"
        replaced.write_text("10.0.0.8 a.internal\n")
        os.replace(replaced, file)
        assert await resolver.resolve("c", "a.internal") == ip("10.0.0.8")
        assert asked == ["a.internal", "c.internal"]

    asyncio.run(scenario())


def test_a_name_that_is_not_answered_has_a_deadline_and_costs_others_nothing() -> None:
    stuck = threading.Event()

    def lookup(name: str) -> list[Address]:
        if name.startswith("slow"):
            stuck.wait(60)
        return ip("1.1.1.1")

    async def scenario() -> None:
        resolver = HostResolver(HostsFile(None), lookup=lookup, deadline=0.3, containers=lambda: 2)
        slow = [asyncio.create_task(resolver.resolve("hostile", f"slow{n}.com")) for n in range(100)]
        await asyncio.sleep(0)
        assert await resolver.resolve("neighbour", "a.com") == ip("1.1.1.1")
        ends = await asyncio.gather(*slow, return_exceptions=True)
        assert {end.code for end in ends if isinstance(end, Refused)} == {"dns_timeout"}
        # the threads are at it yet: whoever asked for them may ask for no more, and a neighbour may
        assert await resolver.resolve("neighbour", "a.com") == ip("1.1.1.1")
        with pytest.raises(Refused):
            await resolver.resolve("hostile", "a.com")
        stuck.set()

    try:
        asyncio.run(scenario())
    finally:
        stuck.set()


@pytest.mark.parametrize("answer", [[], ["1.1.1.1"] * 2, [f"1.1.{n}.1" for n in range(100)]])
def test_an_answer_has_some_addresses_and_not_too_many(answer: list[str]) -> None:
    async def scenario() -> None:
        resolver = HostResolver(HostsFile(None), lookup=lambda name: ip(*answer))
        if len(set(answer)) == 1:
            assert await resolver.resolve("c", "a.com") == ip("1.1.1.1")
        else:
            with pytest.raises(Refused):
                await resolver.resolve("c", "a.com")

    asyncio.run(scenario())


def test_a_name_is_resolved_once_and_its_answer_is_the_one_that_is_used() -> None:
    """Rebinding: public when it is checked, private when it is connected to."""

    async def scenario() -> None:
        async with world() as w:
            answers = [[PUBLIC], ["127.0.0.1"], ["10.0.0.1"]]
            await w.serve(echo, 443)

            def lookup(name: str) -> list[Address]:
                w.asked.append(name)
                return ip(*answers.pop(0))

            w.server.net.resolver = HostResolver(HostsFile(None), lookup=lookup)
            await w.listen(mode="public")
            await w.open()
            await w.tunnel("rebinding.example.com:443")
            assert (w.asked, w.dialled) == (["rebinding.example.com"], [(PUBLIC, 443)])
            # each new connection is a new question, and its answer is checked anew
            for _ in range(2):
                answer, _ = await w.connect_to("rebinding.example.com:443")
                assert answer.refused == "not_public"
            assert w.dialled == [(PUBLIC, 443)]

    asyncio.run(scenario())


def test_one_address_that_is_not_public_refuses_them_all() -> None:
    async def scenario() -> None:
        async with world() as w:
            w.names["mixed.example.com"] = [PUBLIC, "169.254.169.254"]
            await w.listen(mode="public")
            await w.open()
            answer, _ = await w.connect_to("mixed.example.com:443")
            assert (answer.status, answer.refused, w.dialled) == (403, "not_public", [])
            assert b"it is at an address that nothing opens (metadata)" in answer.body

    asyncio.run(scenario())


# ------------------------------------------------------------ connections


def test_families_take_turns_and_the_first_that_answers_is_taken() -> None:
    assert interleaved(ip("2a00::1", "2a00::2", "1.1.1.1", "1.1.1.2", "1.1.1.3")) == ip(
        "2a00::1", "1.1.1.1", "2a00::2", "1.1.1.2", "1.1.1.3"
    )
    tried: list[str] = []
    made: list[socket.socket] = []

    async def connect(address: Address, port: int) -> socket.socket:
        tried.append(str(address))
        if address.version == 6:
            await asyncio.Event().wait()
        if str(address) == "1.1.1.1":
            raise ConnectionRefusedError(111, "Connection refused")
        made.append(socket.socket())
        return made[-1]

    async def scenario() -> None:
        dialer = Dialer(connect=connect, stagger=0.01)
        got = await dialer.dial(target("a.com:443"), ip("2a00::1", "1.1.1.1", "2a00::2", "1.1.1.2", "1.1.1.9"))
        assert got is made[0]
        got.close()

    asyncio.run(scenario())
    assert tried == ["2a00::1", "1.1.1.1", "2a00::2", "1.1.1.2"]


def test_connections_that_come_second_are_closed() -> None:
    made: list[socket.socket] = []

    async def connect(address: Address, port: int) -> socket.socket:
        await asyncio.sleep(0)
        made.append(socket.socket())
        return made[-1]

    async def scenario() -> None:
        got = await Dialer(connect=connect, stagger=0.0).dial(
            target("a.com:443"), ip("1.1.1.1", "1.1.1.2", "1.1.1.3")
        )
        for _ in range(10):
            await asyncio.sleep(0)
        assert [sock for sock in made if sock.fileno() != -1] == [got]
        got.close()

    asyncio.run(scenario())


def test_who_does_not_answer_has_a_deadline() -> None:
    async def connect(address: Address, port: int) -> socket.socket:
        await asyncio.Event().wait()
        raise AssertionError

    async def scenario() -> None:
        for found in (ip("1.1.1.1"), ip("1.1.1.1", "2a00::1")):
            with pytest.raises(Refused) as refused:
                await Dialer(connect=connect, deadline=0.05).dial(target("a.com:443"), found)
            assert (refused.value.status, refused.value.code) == (504, "timeout")

    asyncio.run(scenario())


def test_nobody_listening_is_said() -> None:
    async def scenario() -> None:
        async with world() as w:
            w.names["down.example.com"] = [PUBLIC]
            await w.listen(mode="public")
            await w.open()
            answer, _ = await w.connect_to("down.example.com:443")
            assert (answer.status, answer.refused) == (502, "cannot_connect")
            assert b"can't connect to down.example.com:443: Connection refused" in answer.body
            answer, _ = await w.connect_to("nowhere.example.com:443")
            assert (answer.status, answer.refused) == (502, "unknown_host")

    asyncio.run(scenario())


# ------------------------------------------------------------ the host's own proxy


async def proxied(w: World, behaviour: str = "serve") -> tuple[int, list[str]]:
    """A proxy of the host's network: its port, and what it is asked."""
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(head)
        if behaviour == "refuse":
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n")
        elif behaviour == "rubbish":
            writer.write(b"220 smtp.example.com\r\n\r\n")
        elif head.startswith("CONNECT"):
            writer.write(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nearly ")
            await echo(reader, writer)
        else:
            body = head.encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    w.listening.append(server)
    return server.sockets[0].getsockname()[1], asked


def through(w: World, port: int, **more: str) -> None:
    url = f"http://user:p%40ss@127.0.0.1:{port}"
    w.server.net.proxies = Proxies({"HTTPS_PROXY": url, "HTTP_PROXY": url, **more})
    w.server.net.dialer = Dialer()


def test_connections_go_through_the_hosts_proxy_with_its_password() -> None:
    async def scenario() -> None:
        async with world() as w:
            port, asked = await proxied(w)
            through(w, port)
            w.names["api.example.com"] = [PUBLIC]
            await w.listen(mode="public")
            await w.open()
            client = await w.tunnel("api.example.com:443")
            client.writer.write(b"hello")
            assert await client.reader.readexactly(11) == b"early hello"
            password = base64.b64encode(b"user:p@ss").decode()
            assert asked[0].split("\r\n")[:3] == [
                "CONNECT api.example.com:443 HTTP/1.1",
                "Host: api.example.com:443",
                f"Proxy-Authorization: Basic {password}",
            ]
            answer = await w.ask("GET http://api.example.com/x HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
            assert answer.body.startswith(b"GET http://api.example.com/x HTTP/1.1\r\nHost: api.example.com\r\n")
            assert f"Proxy-Authorization: Basic {password}".encode() in answer.body

    asyncio.run(scenario())


def test_what_the_proxy_is_asked_for_is_checked_first() -> None:
    async def scenario() -> None:
        async with world() as w:
            port, asked = await proxied(w)
            through(w, port)
            w.names["inside.example.com"] = ["10.0.0.1"]
            await w.listen(mode="public")
            await w.open()
            for wanted in ("inside.example.com:443", "10.0.0.1:443", "127.0.0.1:443"):
                answer, _ = await w.connect_to(wanted)
                assert answer.refused == "not_public"
            # a name that means something here alone is not for it to resolve
            for wanted in ("intranet:443", "db.internal:443", "printer.local:443"):
                answer, _ = await w.connect_to(wanted)
                assert answer.refused == "unknown_host"
            assert asked == []
            # on a network where only the proxy resolves names
            await w.tunnel("elsewhere.example.com:443")
            assert len(asked) == 1

    asyncio.run(scenario())


def test_what_the_policy_opens_in_the_own_network_is_reached_directly(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world() as w:
            port, asked = await proxied(w)
            through(w, port)
            await w.serve(echo, 443)
            direct = w.servers[PUBLIC, 443]
            w.names["db.internal"] = ["127.0.0.1"]
            await w.listen(mode="list", hosts=[f"db.internal:{direct}"], private=[f"db.internal:{direct}"])
            await w.open()
            client = await w.tunnel(f"db.internal:{direct}")
            client.writer.write(b"hello")
            assert await client.reader.readexactly(5) == b"hello"
            assert asked == []

    asyncio.run(scenario())


@pytest.mark.parametrize("behaviour", ["refuse", "rubbish"])
def test_a_proxy_that_refuses_is_said_to_and_its_password_is_not(behaviour: str) -> None:
    async def scenario() -> None:
        async with world() as w:
            port, _ = await proxied(w, behaviour)
            through(w, port)
            w.names["api.example.com"] = [PUBLIC]
            await w.listen(mode="public")
            await w.open()
            answer, _ = await w.connect_to("api.example.com:443")
            assert (answer.status, answer.refused) == (502, "upstream_proxy")
            assert b"p@ss" not in answer.body
            assert not any("p@ss" in line for line in w.lines)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("exception", "wanted", "found", "direct"),
    [
        ("api.example.com", "api.example.com:443", [PUBLIC], True),
        (".example.com", "api.example.com:443", [PUBLIC], True),
        ("*.example.com", "api.example.com:443", [PUBLIC], True),
        ("example.com", "api.example.com:443", [PUBLIC], True),
        ("EXAMPLE.com , x", "api.example.com:443", [PUBLIC], True),
        ("example.com:443", "api.example.com:443", [PUBLIC], True),
        ("example.com:444", "api.example.com:443", [PUBLIC], False),
        ("ample.com", "api.example.com:443", [PUBLIC], False),
        ("93.184.0.0/16", "api.example.com:443", [PUBLIC], True),
        ("10.0.0.0/8,x/y", "api.example.com:443", [PUBLIC], False),
        ("*", "api.example.com:443", [PUBLIC], True),
        (PUBLIC, f"{PUBLIC}:443", [PUBLIC], True),
        ("", "api.example.com:443", [PUBLIC], False),
    ],
)
def test_exceptions_from_the_proxy(exception: str, wanted: str, found: list[str], direct: bool) -> None:
    proxies = Proxies({"https_proxy": "proxy:3128", "NO_PROXY": exception})
    proxy = proxies.of(target(wanted), ip(*found), plain=False)
    assert (proxy is None) == direct
    assert proxies.of(target(wanted), ip(*found), plain=True) is None  # there is none for plain HTTP


def test_variables_that_name_no_proxy_are_refused_without_their_password() -> None:
    everything: Any = Proxies({"ALL_PROXY": "http://a:1"})
    assert everything.of(target("b.com:80"), [], plain=True).port == 1
    # nothing goes past a proxy that can't be used, but for what has none
    proxies = Proxies({"HTTPS_PROXY": "socks5://user:secret@proxy:1080", "NO_PROXY": "d.com"})
    with pytest.raises(Refused, match=r"HTTPS_PROXY.*socks5") as error:
        proxies.of(target("b.com:443"), ip(PUBLIC), plain=False)
    assert "secret" not in str(error.value)
    assert proxies.of(target("d.com:443"), ip(PUBLIC), plain=False) is None
    assert not outside(target("localhost:443"))
    assert outside(target("a.b.com:443"))


def test_a_real_connection_does_not_wait_to_send_small_pieces() -> None:
    async def scenario() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        sock = await dial.connect(ipaddress.ip_address("127.0.0.1"), server.sockets[0].getsockname()[1])
        with sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        server.close()

    asyncio.run(scenario())
