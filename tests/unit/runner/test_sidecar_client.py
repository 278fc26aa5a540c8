"""The runner's connection to its sidecar: what is said again, what is said once, and what ends it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from samovar import wire

from coordinator.wire import Assignment, ContainerState, Register, SidecarEvent, TaskLimits
from runner.errors import SidecarAway
from runner.sidecar_client import _UNTOLD, Heard, SidecarClient
from sidecar import session
from sidecar.control import Sidecar
from sidecar.events import _KEPT, EventLog
from sidecar.server import Server
from sidecar.settings import Settings
from tests.waiting import eventually_async

MIB = 1024**2


@dataclass
class World:
    """A sidecar in this loop, and the client of a runner."""

    settings: Settings
    server: Server
    client: SidecarClient

    @property
    def path(self) -> Path:
        return self.settings.control_socket

    @property
    def events(self) -> EventLog:
        return self.server._sidecar.events

    async def another(self) -> None:
        """A sidecar that has started anew."""
        await self.server.stop()
        self.server = Server(self.settings)
        await self.server.start()

    async def heard(self, boot: str | None = None) -> Heard:
        return await asyncio.wait_for(self.client.events(self.events.boot if boot is None else boot), 20)

    def cut(self) -> None:
        """The connection breaks; both processes go on."""
        for each in list(self.server._control._sessions):
            each.abort()

    async def alone(self) -> None:
        """Until the client knows that it has no connection."""
        await eventually_async(lambda: self.client._stream is None, "the end of the connection")


def run(test: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory(prefix="smv") as directory:
            path = Path(directory) / "s.sock"
            settings = Settings(coordinator_url="http://127.0.0.1:9", control_socket=path)
            w = World(settings, Server(settings), SidecarClient(path))
            await w.server.start()
            try:
                await asyncio.wait_for(test(w), 60)
            finally:
                await w.client.close()
                await w.server.stop()

    asyncio.run(main())


def kinds(heard: Heard) -> list[str]:
    return [event.attempt or "" for event in heard.events]


def say(w: World, *attempts: str, container: str = "c1") -> None:
    for attempt in attempts:
        w.events.add(container, "started", attempt=attempt)


def assignment(payload: Any = None) -> Assignment:
    return Assignment(
        attempt="a1", token=1, secret="s", run="r", number=1, project="p", task="t", version="20260101.1",
        deployment="d", image="i", payload=payload, trace_id="0" * 32, lease=30,
        limits=TaskLimits(memory=1, cpu=1, timeout=60, warm=True),
    )  # fmt: skip


def test_another_connection_to_the_same_sidecar_hears_what_was_not_acted_on_and_nothing_twice() -> None:
    async def test(w: World) -> None:
        first = await w.heard("")
        assert (first.boot, first.events) == (w.events.boot, [])
        say(w, "a", "b")
        heard = await w.heard()
        assert kinds(heard) == ["a", "b"]
        w.client.seen(Heard(heard.boot, heard.events[:1]))
        w.cut()
        await w.alone()
        say(w, "c")
        # "b" is said again, and known by its number
        await w.client.forget("nobody")
        assert kinds(await w.heard()) == ["b", "c"]
        w.client.seen(await w.heard())
        w.cut()
        await w.alone()
        await w.client.forget("nobody")
        say(w, "d")
        assert kinds(await w.heard()) == ["d"]
        assert [e.attempt for e in w.events.after(0)] == ["d"]

    run(test)


def test_who_waits_for_events_hears_that_the_connection_ended() -> None:
    async def test(w: World) -> None:
        await w.heard("")
        waiting = asyncio.create_task(w.heard())
        await asyncio.sleep(0)
        w.cut()
        with pytest.raises(SidecarAway):
            await waiting

    run(test)


def test_a_sidecar_that_began_anew_is_known_by_its_boot_and_its_numbers_count_from_the_beginning() -> None:
    async def test(w: World) -> None:
        before = await w.heard("")
        say(w, *"abcde")
        assert kinds(await w.heard()) == list("abcde")
        await w.another()
        await w.alone()
        # of the one before nothing is kept: its containers say it again
        heard = await w.heard(before.boot)
        assert (heard.boot, heard.events) == (w.events.boot, [])
        assert heard.boot != before.boot
        say(w, "f")
        assert kinds(await w.heard()) == ["f"]

    run(test)


def test_a_runner_that_began_anew_is_not_told_what_the_one_before_was() -> None:
    async def test(w: World) -> None:
        await w.heard("")
        say(w, *"abc")
        await w.heard()
        other = SidecarClient(w.path)
        assert (await other.events("")).events == []
        assert w.events.after(0) == []
        await other.close()

    run(test)


def test_the_newer_of_two_runners_has_the_place() -> None:
    async def test(w: World) -> None:
        await w.heard("")
        waiting = asyncio.create_task(w.heard())
        other = SidecarClient(w.path)
        await other.events("")
        with pytest.raises(SidecarAway):
            await waiting
        say(w, "a")
        assert kinds(await other.events(w.events.boot)) == ["a"]
        await other.close()

    run(test)


def test_events_are_acknowledged_without_being_asked_and_none_is_kept() -> None:
    async def test(w: World) -> None:
        await w.heard("")
        for n in range(20 * _UNTOLD):
            say(w, f"a{n}", container=f"c{n % 5}")
            w.client.seen(await w.heard())
        assert len(w.client._unseen) == 0
        await eventually_async(lambda: len(w.events.after(0)) < _UNTOLD, "the events to be dropped")

    run(test)


def test_what_is_asked_says_how_far_events_were_acted_on() -> None:
    async def test(w: World) -> None:
        await w.heard("")
        say(w, "a", "b")
        w.client.seen(await w.heard())
        assert len(w.events.after(0)) == 2
        await w.client.forget("nobody")
        assert w.events.after(0) == []

    run(test)


def test_a_slow_request_holds_no_other_and_those_about_one_name_stay_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []
    go = asyncio.Event()

    async def register(self: Sidecar, name: str, body: Register) -> ContainerState:
        if name == "slow":
            await go.wait()
        done.append(f"register {name}")
        return ContainerState()

    monkeypatch.setattr(Sidecar, "register", register)
    monkeypatch.setattr(Sidecar, "forget", lambda self, name: done.append(f"forget {name}"))

    async def test(w: World) -> None:
        await w.heard("")
        slow = asyncio.create_task(w.client.register("slow", Register()))
        await asyncio.sleep(0)
        forget = asyncio.create_task(w.client.forget("slow"))
        await asyncio.gather(*(w.client.register(f"c{n}", Register()) for n in range(500)))
        assert not slow.done()
        assert not forget.done()
        go.set()
        await asyncio.gather(slow, forget)
        assert done[-2:] == ["register slow", "forget slow"]

    run(test)


def test_what_was_asked_over_a_connection_that_ends_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(self: Sidecar, name: str, body: Register) -> ContainerState:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(Sidecar, "register", never)

    async def test(w: World) -> None:
        asked = [asyncio.create_task(w.client.register(f"c{n}", Register())) for n in range(3)]
        await eventually_async(lambda: len(w.client._stream._asked) == 3 if w.client._stream else 0, "the requests")
        w.cut()
        for each in asked:
            with pytest.raises(SidecarAway, match="register c"):
                await each
        await w.client.forget("nobody")
        await w.server.stop()
        with pytest.raises(SidecarAway):
            await w.client.forget("nobody")

    monkeypatch.setattr("sidecar.server._FAREWELL", 0.05)
    run(test)


def test_a_request_that_can_not_be_taken_is_refused_and_the_connection_goes_on() -> None:
    async def test(w: World) -> None:
        with pytest.raises(SidecarAway, match=r"register \.\./x: bad_name"):
            await w.client.register("../x", Register())
        with pytest.raises(SidecarAway, match="unknown_container"):
            await w.client.assign("c1", assignment(), "cold")
        with pytest.raises(SidecarAway, match="more than a line may have"):
            await w.client.assign("c1", assignment("x" * wire.MAX_LINE), "cold")
        assert len(w.server._control._sessions) == 1
        async with stranger(w) as (reader, writer):
            writer.write(HELLO + b'{"type":"register","id":5,"name":"c1","body":{"uid":-1}}\n')
            writer.write(b'{"type":"of tomorrow","id":6}\n{"type":"forget","id":7,"name":"c1"}\n')
            lines = [wire.decode(await asyncio.wait_for(reader.readline(), 20)) for _ in range(4)]
        assert [line.get("code", line["type"]) for line in lines] == [
            "welcome",
            "bad_request",
            "bad_request",
            "reply",
        ]
        assert "register.body.uid" in lines[1]["message"]
        assert [line.get("id") for line in lines] == [None, 5, 6, 7]

    run(test)


def test_a_payload_as_large_as_may_be_comes_through_and_null_stays_null() -> None:
    async def test(w: World) -> None:
        await w.client.register("c1", Register())
        given = {"none": None, "text": "é" * (5 * MIB - 100)}
        for payload in (given, None):
            await w.client.assign("c1", assignment(payload), "cold")
            bound = w.server._sidecar.get("c1")._attempt
            assert bound is not None
            assert bound.assignment.payload == payload

    run(test)


@contextlib.asynccontextmanager
async def stranger(w: World) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(w.path, limit=wire.MAX_LINE)
    try:
        yield reader, writer
    finally:
        writer.close()


HELLO = b'{"type":"hello","protocol":1}\n'


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n", "protocol"),
        (b"\xff\xfe\n", "protocol"),
        (b"[" * 100_000 + b"\n", "protocol"),
        (b'{"type":"forget","id":1,"name":"c1"}\n', "no_hello"),
        (b'{"type":"hello","protocol":2}\n', "protocol"),
        (b"x" * (wire.MAX_LINE + 1), "protocol"),
        (HELLO + HELLO, "protocol"),
        (HELLO + b"what\n", "protocol"),
        (HELLO + b"x" * (wire.MAX_LINE + 1), "protocol"),
        (b"", "no_hello"),
    ],
    ids=["http", "no text", "deep", "no hello", "version", "long", "twice", "later", "long later", "silence"],
)
def test_garbage_is_refused_in_words_and_ends_only_its_own_connection(
    said: bytes, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not said:
        monkeypatch.setattr(session, "_PATIENCE", 0.05)

    async def test(w: World) -> None:
        greets = said.startswith(HELLO)
        if not greets:
            await w.heard("")
        async with stranger(w) as (reader, writer):
            with contextlib.suppress(ConnectionError):
                writer.write(said)
                await writer.drain()
            lines = [wire.decode(line) for line in (await asyncio.wait_for(reader.read(), 20)).splitlines()]
        assert (lines[-1]["type"], lines[-1]["code"]) == ("refusal", code)
        assert len(str(lines[-1])) < 3000
        if not greets:
            # who was there before has not noticed
            say(w, "a")
            assert kinds(await w.heard()) == ["a"]
        await w.client.forget("nobody")

    run(test)


def test_a_peer_that_has_closed_its_half_is_let_go() -> None:
    async def test(w: World) -> None:
        async with stranger(w) as (reader, writer):
            writer.write(HELLO)
            assert await reader.readline()
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 20) == b""
        await eventually_async(lambda: not w.server._control._sessions, "the connection to be forgotten")
        await w.client.forget("nobody")

    run(test)


def test_a_sidecar_that_says_nothing_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.sidecar_client._CONNECT", 0.05)

    async def main() -> None:
        with tempfile.TemporaryDirectory(prefix="smv") as directory, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{directory}/s")
            listener.listen()
            client = SidecarClient(Path(directory) / "s")
            with pytest.raises(SidecarAway, match="connecting"):
                await client.forget("c1")
            await client.close()

    asyncio.run(main())


def test_a_runner_that_does_not_read_takes_no_memory_and_is_told_of_what_it_missed() -> None:
    async def test(w: World) -> None:
        async with stranger(w) as (reader, writer):
            writer.write(HELLO)
            assert await reader.readline()
            (held,) = w.server._control._sessions
            message = "x" * 10_000
            for n in range(5000):
                error = {"type": "E", "message": message}
                w.events.add(f"c{n % 3}", "ready", error=error)
                if not n % 50:
                    await asyncio.sleep(0)
            assert held._transport is not None
            assert held._transport.get_write_buffer_size() < 4 * MIB
            assert len(w.events._events) <= 3 * _KEPT
            seen: list[SidecarEvent] = []
            while not seen or seen[-1].seq < 5000:
                line = await asyncio.wait_for(reader.readline(), 20)
                seen.append(SidecarEvent.model_validate(wire.decode(line)["event"]))
        numbers = [event.seq for event in seen]
        assert numbers == sorted(set(numbers))
        # what is missing is named, for each container
        assert {event.container for event in seen if event.kind == "gap"} == {"c0", "c1", "c2"}

    run(test)


def test_who_does_not_read_answers_is_not_read_either() -> None:
    async def test(w: World) -> None:
        async with stranger(w) as (reader, writer):
            writer.write(HELLO)
            assert await reader.readline()
            (held,) = w.server._control._sessions
            ask = b'{"id":%d,"type":"register","name":"x/%s","body":{}}\n'
            asked = 0
            while held._transport is not None and held._transport.is_reading():
                writer.write(b"".join(ask % (n, b"y" * 400) for n in range(asked, asked + 100)))
                asked += 100
                await asyncio.sleep(0)
            assert held._transport is not None
            assert held._transport.get_write_buffer_size() < 4 * MIB
            answered = 0
            while answered < asked:
                assert b"bad_name" in await asyncio.wait_for(reader.readline(), 20)
                answered += 1

    run(test)


def test_a_thousand_events_cost_the_same_however_many_there_were(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0
    real = EventLog.after

    def after(self: EventLog, seq: int) -> list[SidecarEvent]:
        nonlocal looked
        found = real(self, seq)
        looked += len(found)
        return found

    monkeypatch.setattr(EventLog, "after", after)

    async def test(w: World) -> None:
        await w.heard("")

        async def work(count: int) -> int:
            before = looked
            for n in range(count):
                say(w, f"a{n}", container=f"c{n % 9}")
                w.client.seen(await w.heard())
            return looked - before

        first = await work(1000)
        await work(5000)
        assert first == await work(1000) == 1000

    run(test)
