"""Places in a container's loopback where the egress process listens: what is handed over, and what comes in."""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from samovar.harness.places import Places, hand_over

from sidecar.egress.messages import Begun
from tests.unit.sidecar.egress.world import World, echo, world
from tests.waiting import eventually_async

HOST = "db.example.com:5000"
#: A part of loopback for these tests, as if it were a container's.
ADDRESS = "127.77.0.2"
Made = Callable[[socket.socket], list[int]]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((ADDRESS, 0))
        return int(sock.getsockname()[1])


@dataclass
class Placed:
    w: World
    places: Places
    host: int
    proxy: int

    async def connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(ADDRESS, port)

    async def reset(self, port: int, said: bytes = b"") -> bool:
        """Whether a client sees a reset, and nothing before it."""
        try:
            reader, writer = await self.connect(port)
            writer.write(said)
            await reader.read()
        except ConnectionResetError:
            return True
        return False


@contextlib.asynccontextmanager
async def placed(*, opened: bool = True, **limits: Any) -> AsyncIterator[Placed]:
    async with world() as w:
        await w.serve(echo, 5000, name="db.example.com")
        await w.listen(**{"mode": "list", "hosts": [HOST], **limits})
        host, proxy = free_port(), free_port()
        wanted = [(ADDRESS, proxy, None), (ADDRESS, host, "db.example.com")]
        # a container's port is that of the host; here nobody may listen at it
        door = w.server._doors["c1"]
        places = await asyncio.to_thread(hand_over, str(w.directory / "places.sock"), wanted)
        assert places is not None
        for entrance in door._entrances:
            if entrance.wanted is not None:
                entrance.wanted = type(entrance.wanted)("db.example.com", 5000)
        w.say(Begun("c1"))
        if opened:
            await w.open()
        try:
            yield Placed(w, places, host, proxy)
        finally:
            places.close()


def run(scenario: Callable[[], Any]) -> None:
    asyncio.run(scenario())


def test_a_client_of_one_host_needs_to_know_nothing() -> None:
    async def scenario() -> None:
        async with placed() as p:
            reader, writer = await p.connect(p.host)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            await p.w.close()
            assert p.w.lines == [f"{HOST}: 5 B sent, 5 B received in 0.0 s"]
            assert (p.w.counts()[HOST].sent, p.w.counts()[HOST].received) == (5, 5)
            assert p.w.server.net.memory.used == 0

    run(scenario)


def test_the_proxy_is_asked_as_ever() -> None:
    async def scenario() -> None:
        async with placed() as p:
            reader, writer = await p.connect(p.proxy)
            writer.write(f"CONNECT {HOST} HTTP/1.1\r\n\r\n".encode())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.close()
            reader, writer = await p.connect(p.proxy)
            writer.write(b"CONNECT other.example.com:443 HTTP/1.1\r\n\r\n")
            assert b"X-Samovar-Refused: not_allowed" in await reader.read()
            writer.close()

    run(scenario)


def test_much_passes_both_ways() -> None:
    async def scenario() -> None:
        async with placed() as p:
            reader, writer = await p.connect(p.host)
            data = bytes(range(256)) * 40_000

            async def send() -> None:
                writer.write(data)
                await writer.drain()
                writer.write_eof()

            sending = asyncio.create_task(send())
            assert await reader.read() == data
            await sending
            writer.close()

    run(scenario)


def test_a_refusal_is_a_reset_with_its_reason_in_the_log() -> None:
    async def scenario() -> None:
        async with placed(hosts=["other.example.com:443"]) as p:
            assert await p.reset(p.host)
            assert "db.example.com:5000 is not in the task's network" in p.w.lines[0]

    run(scenario)


def test_a_server_that_is_lost_is_a_reset() -> None:
    async def scenario() -> None:
        async def lose(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(1)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

        async with placed() as p:
            p.w.servers.clear()
            await p.w.serve(lose, 5000)
            assert await p.reset(p.host, b"x")

    run(scenario)


@pytest.mark.parametrize(("limits", "count", "code"), [({"connections": 3}, 4, "may have no more"), ({}, 4, None)])
def test_the_number_of_connections_holds(limits: dict[str, Any], count: int, code: str | None) -> None:
    async def scenario() -> None:
        async with placed(**limits) as p:
            held = []
            for _ in range(3):
                held.append(await p.connect(p.host))
                held[-1][1].write(b"x")
                assert await held[-1][0].readexactly(1) == b"x"
            if code is not None:
                assert await p.reset(p.host, b"x")
                assert code in p.w.lines[-1]
            for _, writer in held:
                writer.close()

    run(scenario)


def test_the_bytes_of_a_run_hold() -> None:
    async def scenario() -> None:
        async with placed(bytes=1000) as p:
            reader, writer = await p.connect(p.host)
            writer.write(bytes(400))
            assert len(await reader.readexactly(400)) == 400
            writer.write(bytes(400))
            with pytest.raises(ConnectionResetError):
                await reader.read()
            assert await p.reset(p.host, b"x")
            await p.w.close()
            assert sum(c.sent + c.received for c in p.w.counts().values()) <= 1000

    run(scenario)


def test_without_an_attempt_whoever_comes_is_turned_away() -> None:
    async def scenario() -> None:
        async with placed(opened=False) as p:
            assert await p.reset(p.host, b"x")
            assert await p.reset(p.proxy, b"x")
            await p.w.open()
            reader, writer = await p.connect(p.host)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            await p.w.close()
            with pytest.raises(ConnectionResetError):
                await reader.read()
            assert await p.reset(p.host, b"x")
            assert p.w.dialled == [("93.184.216.34", 5000)]
            writer.close()

    run(scenario)


def test_nobody_waits_in_line_for_the_next_run() -> None:
    """The last connection of a run that was not let in yet is turned away before process 1 goes on."""

    async def scenario() -> None:
        async with placed() as p:
            door = p.w.server._doors["c1"]
            door._unwatch()  # as if there were no time for it
            reader, writer = await p.connect(p.host)
            writer.write(b"for the next run")
            assert await asyncio.to_thread(p.places.settle)
            with pytest.raises(ConnectionResetError):
                async with asyncio.timeout(10):
                    await reader.read()
            assert p.w.dialled == []
            writer.close()

    run(scenario)


def test_the_places_end_with_process_one() -> None:
    async def scenario() -> None:
        async with placed() as p:
            p.places.close()
            door = p.w.server._doors["c1"]
            await eventually_async(lambda: len(door._entrances) == 1, "the places to be left")
            with pytest.raises(ConnectionRefusedError):
                await p.connect(p.host)

    run(scenario)


def test_the_places_end_with_the_container() -> None:
    async def scenario() -> None:
        async with placed() as p:
            p.w.forget()
            await eventually_async(lambda: "c1" not in p.w.server._doors, "the container to be forgotten")
            assert await asyncio.to_thread(p.places.lost)

    run(scenario)


# ---------------------------------------------------------------- what is handed over


def offer(path: str, descriptors: list[int], told: bytes) -> socket.socket:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.settimeout(10)
    line.connect(path)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    line.sendmsg([told], rights)
    return line


def listening(connected: int = 1) -> tuple[socket.socket, list[socket.socket]]:
    listener = socket.create_server((ADDRESS, 0))
    return listener, [socket.create_connection(listener.getsockname()) for _ in range(connected)]


def told(*places: tuple[str, int, str | None]) -> bytes:
    return json.dumps({"places": places or [(ADDRESS, free_port(), "db.example.com")]}).encode()


def nothing(held: contextlib.ExitStack) -> tuple[list[int], bytes]:
    return [], told()


def two(held: contextlib.ExitStack) -> tuple[list[int], bytes]:
    sock = held.enter_context(listening()[0])
    return [sock.fileno(), sock.fileno()], told()


def many(held: contextlib.ExitStack) -> tuple[list[int], bytes]:
    sock = held.enter_context(listening()[0])
    return [sock.fileno()] * 200, told()


def a_file(held: contextlib.ExitStack) -> tuple[list[int], bytes]:
    return [held.enter_context(open("/dev/null")).fileno()], told()


def datagrams(held: contextlib.ExitStack) -> tuple[list[int], bytes]:
    return [held.enter_context(socket.socket(type=socket.SOCK_DGRAM)).fileno()], told()


def a_unix_socket(held: contextlib.ExitStack) -> tuple[list[int], bytes]:
    sock = held.enter_context(socket.socket(socket.AF_UNIX))
    sock.bind("")
    sock.listen()
    return [sock.fileno()], told()


def connected(held: contextlib.ExitStack) -> tuple[list[int], bytes]:
    listener, (sock,) = listening()
    held.enter_context(listener)
    return [held.enter_context(sock).fileno()], told()


def idle(held: contextlib.ExitStack) -> tuple[list[int], bytes]:
    return [held.enter_context(socket.socket()).fileno()], told()


def good(held: contextlib.ExitStack, said: bytes, connections: int = 1) -> tuple[list[int], bytes]:
    listener, clients = listening(connections)
    for sock in (listener, *clients):
        held.enter_context(sock)
    return [listener.fileno()], said


def elsewhere(held: contextlib.ExitStack) -> tuple[list[int], bytes]:
    return good(held, told(("0.0.0.0", free_port(), "db.example.com")))


def no_port(held: contextlib.ExitStack) -> tuple[list[int], bytes]:
    return good(held, told((ADDRESS, 0, "db.example.com")))


def no_name(held: contextlib.ExitStack) -> tuple[list[int], bytes]:
    return good(held, told((ADDRESS, free_port(), "db example\r\n")))


def no_message(held: contextlib.ExitStack) -> tuple[list[int], bytes]:
    return good(held, b"{")


def no_places(held: contextlib.ExitStack) -> tuple[list[int], bytes]:
    return good(held, b'{"places": []}')


def too_many(held: contextlib.ExitStack) -> tuple[list[int], bytes]:
    return good(held, told(*[(ADDRESS, port, None) for port in range(20_000, 20_129)]))


def taken(held: contextlib.ExitStack) -> tuple[list[int], bytes]:
    other = held.enter_context(socket.create_server((ADDRESS, 0)))
    return good(held, told((ADDRESS, other.getsockname()[1], None)))


@pytest.mark.parametrize(
    "make",
    [
        *(nothing, two, many, a_file, datagrams, a_unix_socket, connected, idle),
        *(elsewhere, no_port, no_name, no_message, no_places, too_many, taken),
    ],
)
def test_what_is_no_place_is_not_taken(make: Callable[[contextlib.ExitStack], tuple[list[int], bytes]]) -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.serve(echo, 5000, name="db.example.com")
            await w.listen(mode="list", hosts=[HOST])
            with contextlib.ExitStack() as held:
                line = offer(str(w.directory / "places.sock"), *make(held))
                held.enter_context(line)
                assert await asyncio.to_thread(lambda: line.recv(16)) == b""
            assert len(w.server._doors["c1"]._entrances) == 1
            await eventually_async(lambda: not waiting_threads(), "the thread to end")
            await w.open()
            client = await w.tunnel(HOST)
            client.writer.write(b"hello")
            assert await client.reader.readexactly(5) == b"hello"
            client.writer.close()

    run(scenario)


def waiting_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "places"]


def test_a_hand_over_that_blocks_blocks_nobody() -> None:
    """Who waits at the container's own socket waits as long as it likes, and as long as it is there."""

    async def scenario() -> None:
        async with world() as w:
            await w.serve(echo, 5000, name="db.example.com")
            await w.listen(mode="list", hosts=[HOST])
            with contextlib.ExitStack() as held:
                # one place more than there are connections
                descriptors, said = good(held, told((ADDRESS, free_port(), None), (ADDRESS, free_port(), None)))
                held.enter_context(offer(str(w.directory / "places.sock"), descriptors, said))
                await eventually_async(waiting_threads, "somebody to wait")
                await w.listen("c2", mode="list", hosts=[HOST])
                await w.open("c2", "a2")
                client = await w.tunnel(HOST, "c2")
                client.writer.write(b"hello")
                assert await client.reader.readexactly(5) == b"hello"
                client.writer.close()
                assert waiting_threads()
                w.forget()
                await eventually_async(lambda: not waiting_threads(), "the thread to end")

    run(scenario)


def test_one_that_says_nothing_is_waited_for_as_long_as_the_container_is_there() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.listen(mode="list", hosts=[HOST])
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
                line.connect(str(w.directory / "places.sock"))
                await eventually_async(waiting_threads, "somebody to wait")
                w.forget()
                await eventually_async(lambda: not waiting_threads(), "the thread to end")

    run(scenario)


@pytest.mark.parametrize("when", ["begun", "taken"])
def test_user_code_has_nothing_to_hand_over(when: str) -> None:
    async def scenario() -> None:
        async with contextlib.AsyncExitStack() as held:
            if when == "taken":
                w = (await held.enter_async_context(placed())).w
            else:
                w = await held.enter_async_context(world())
                await w.listen(mode="list", hosts=[HOST])
                w.say(Begun("c1"))
                door = w.server._doors["c1"]
                await eventually_async(lambda: door._offer is None, "the offer to end")
                await eventually_async(lambda: not waiting_threads(), "the thread to end")
            with pytest.raises(OSError, match=r"refused|pipe|reset|No such file"):
                offer(str(w.directory / "places.sock"), [], told())

    run(scenario)


def test_a_builder_has_none() -> None:
    async def scenario() -> None:
        async with world() as w:
            await w.listen(mode="build", hosts=[HOST])
            assert not (w.directory / "places.sock").exists()

    run(scenario)


def test_what_the_container_has_set_is_not_kept() -> None:
    """A close that lingers would block this process for as long as the container likes."""

    async def scenario() -> None:
        async with world() as w:
            await w.listen(mode="list", hosts=[HOST])
            with contextlib.ExitStack() as held:
                listener = held.enter_context(socket.socket())
                listener.bind((ADDRESS, 0))
                general, tcp = socket.SOL_SOCKET, socket.IPPROTO_TCP
                set_there = [(general, socket.SO_KEEPALIVE, 1), (general, socket.SO_RCVLOWAT, 70_000)]
                set_there += [(general, 37, 0x1A), (tcp, socket.TCP_DEFER_ACCEPT, 9)]
                listener.setsockopt(general, socket.SO_LINGER, struct.pack("ii", 1, 3600))
                for level, option, value in set_there:
                    listener.setsockopt(level, option, value)
                listener.listen()
                client = held.enter_context(socket.create_connection(listener.getsockname()))
                client.send(b"x")  # who defers accepts waits for it
                line = offer(str(w.directory / "places.sock"), [listener.fileno()], told())
                held.enter_context(line)
                assert await asyncio.to_thread(lambda: line.recv(16)) == b"listening"
                sock = w.server._doors["c1"]._entrances[1].socket
                assert sock.getsockopt(general, socket.SO_LINGER) == 0
                found = [sock.getsockopt(level, option) for level, option, _ in set_there]
                assert found == [0, 1, 0, 0]
                # nor can it set anything: what it has is another socket
                listener.setblocking(True)
                assert not sock.getblocking()

    run(scenario)


def test_descriptors_that_nobody_wants_are_not_taken() -> None:
    """Whoever closes the last of one that lingers waits for it, so nobody is to be given any."""

    async def scenario() -> None:
        async with world() as w:
            await w.listen(mode="list", hosts=[HOST])
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(w.directory / "c1.sock"))
                try:
                    sock.getsockopt(socket.SOL_SOCKET, 83)
                except OSError:
                    pytest.skip("a kernel before 6.16")
                with pytest.raises(PermissionError):
                    socket.send_fds(sock, [b"x"], [sock.fileno()])

    run(scenario)
