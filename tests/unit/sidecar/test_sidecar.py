"""The sidecar between a container that speaks the protocol and a coordinator that fails on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from samovar import wire
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sidecar import connection
from sidecar.server import Server
from sidecar.settings import Settings
from tests.control import BlockingControl, Control, Refusal
from tests.waiting import eventually, eventually_async

ATTEMPT = "a1"


@dataclass
class Coordinator:
    """Records what it is asked; answers with `refuse` (status, code) when told to."""

    calls: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    #: The same, for the next call only.
    refuse_once: dict[str, tuple[int, str]] = field(default_factory=dict)
    #: What calls wait for; how many do, and did at once.
    gate: asyncio.Event | None = None
    waiting: int = 0
    most: int = 0

    #: What is answered to a call.
    answers: dict[str, Any] = field(default_factory=dict)
    #: What the attempt is given.
    secrets: dict[str, Any] = field(default_factory=lambda: {"values": {}})
    #: Calls that are answered only when their event is set.
    slow: dict[str, asyncio.Event] = field(default_factory=dict)

    #: How many items each batch had.
    batches: list[int] = field(default_factory=list)

    async def batch(self, request: Request) -> Response:
        """Each pair of lines as a call of its own, all at once."""
        if (refusal := self.refuse_once.pop("batch", None)) is not None:
            return JSONResponse({"error": {"code": refusal[1], "message": "refused"}}, refusal[0])
        lines = (await request.body()).split(b"\n")
        heads = [json.loads(head) for head in lines[:-1:2]]
        self.batches.append(len(heads))
        answers = [
            await self.answer(head["action"], f"Bearer {head['secret']}", json.loads(body))
            for head, body in zip(heads, lines[1::2], strict=True)
        ]
        parts = [b'{"status":%d,"alone":false}\n%b\n' % (a.status_code, bytes(a.body)) for a in answers]
        return Response(b"".join(parts))

    async def handle(self, request: Request) -> JSONResponse:
        return await self.answer(
            request.path_params["action"], request.headers["authorization"], await request.json()
        )

    async def answer(self, action: str, authorization: str, body: dict[str, Any]) -> JSONResponse:
        if action in self.slow:
            await self.slow[action].wait()
        if self.gate is not None:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
            await self.gate.wait()
            self.waiting -= 1
        refusal = self.refuse_once.pop(action, None) or self.refuse.get(action)
        if refusal is not None:
            status, code = refusal
            return JSONResponse({"error": {"code": code, "message": f"{action} refused"}}, status)
        self.calls.append((action, authorization, body))
        if action in self.answers:
            return JSONResponse(self.answers[action])
        if action == "secrets":
            return JSONResponse(self.secrets)
        if action == "checkpoint":
            return JSONResponse({"stored": True, "value": body["value"]})
        return JSONResponse({})

    def seen(self, action: str) -> list[dict[str, Any]]:
        return [body for name, _, body in self.calls if name == action]


@dataclass
class World:
    coordinator: Coordinator
    control: Control
    directory: Path
    port: int
    settings: Settings
    sidecar: Server | None = None
    #: The coordinator's.
    server: uvicorn.Server | None = None
    serving: asyncio.Task[None] | None = None
    #: Of the container, once it has connected.
    ticket: str | None = None

    async def stop(self, name: str) -> None:
        if name == "sidecar" and self.sidecar is not None:
            self.sidecar, stopping = None, self.sidecar
            await stopping.stop()
        elif name == "coordinator" and self.server is not None and self.serving is not None:
            self.server.should_exit = True
            self.serving, stopped = None, self.serving
            await stopped

    async def start_coordinator(self) -> None:
        app = Starlette(
            routes=[
                Route("/internal/v1/attempts/{attempt}/batch", self.coordinator.batch, methods=["POST"]),
                Route("/internal/v1/attempts/{attempt}/{action}", self.coordinator.handle, methods=["POST"]),
            ]
        )
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=self.port, log_level="error"))
        self.server, self.serving = server, asyncio.create_task(server.serve())
        await eventually_async(lambda: server.started, "the coordinator to listen")

    async def start_sidecar(self) -> None:
        self.sidecar = Server(self.settings)
        await self.sidecar.start()

    async def register(self, *, running: bool = False, secrets: Sequence[str] = ()) -> dict[str, Any]:
        body: dict[str, Any] = {"assignment": assignment(secrets)} if running else {}
        return dict((await self.control.ask("register", "c1", body))["state"])

    async def assign(self, secrets: Sequence[str] = ()) -> None:
        body = {"assignment": assignment(secrets), "start": "cold"}
        await self.control.ask("assign", "c1", body)

    async def events(self) -> list[dict[str, Any]]:
        return await self.control.so_far()

    async def event(self, kind: str) -> dict[str, Any]:
        async def found() -> dict[str, Any] | None:
            return next((e for e in await self.events() if e["kind"] == kind), None)

        return await eventually_async(found, f"the event {kind!r}") or {}

    async def connect(self, attempt: str | None = None) -> Harness:
        harness = await self.visit()
        hello = {"protocol": wire.PROTOCOL, "sdk": "0", "python": "3", "attempt": attempt, "ticket": self.ticket}
        self.ticket = (await harness.ask("hello", **hello))["ticket"]
        return harness

    async def visit(self) -> Harness:
        """A connection that has said nothing yet, as soon as there is somebody to connect to."""

        async def connected() -> Harness | None:
            try:
                return Harness(*await asyncio.open_unix_connection(self.directory / "c" / "c1" / wire.SOCKET_NAME))
            except OSError:
                return None

        return await eventually_async(connected, "the sidecar to listen for the container")


@dataclass
class Harness:
    """The container's end of the connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int = 0
    inbox: list[dict[str, Any]] = field(default_factory=list)

    async def ask(self, kind: str, /, **fields: Any) -> dict[str, Any]:
        self.number += 1
        self.writer.write(wire.encode({"id": self.number, "type": kind, **fields}))
        while True:
            message = await self._read()
            if message.get("reply") == self.number:
                return message
            self.inbox.append(message)

    async def receive(self) -> dict[str, Any]:
        return self.inbox.pop(0) if self.inbox else await self._read()

    async def _read(self) -> dict[str, Any]:
        line = await asyncio.wait_for(self.reader.readline(), 20)
        assert line, "the sidecar closed the connection"
        return wire.decode(line)


def assignment(secrets: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "attempt": ATTEMPT, "token": 7, "secret": "the-secret", "run": "r1", "number": 1, "project": "p",
        "task": "t", "version": "20260101.1", "deployment": "d", "image": "i", "payload": {"n": 1},
        "limits": {"memory": 1, "cpu": 1, "timeout": 1, "warm": True}, "trace_id": "0", "lease": 30,
        "secrets": list(secrets),
    }  # fmt: skip


def line(seq: int, message: str = "hello") -> dict[str, Any]:
    return {"seq": seq, "at": 0.0, "level": "info", "stream": "stdout", "logger": None, "message": message}


@contextlib.asynccontextmanager
async def world(**settings: Any) -> AsyncIterator[World]:
    with socket.socket() as free, tempfile.TemporaryDirectory(prefix="smv") as directory:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        path = Path(directory) / "sidecar.sock"
        made = Settings(coordinator_url=f"http://127.0.0.1:{port}", control_socket=path, **settings)
        w = World(Coordinator(), Control(path), Path(directory), port, made)
        await w.start_sidecar()
        await w.start_coordinator()
        yield w
        await w.control.close()
        await w.stop("sidecar")
        await w.stop("coordinator")


def run(test: Callable[[World], Coroutine[Any, Any, None]], **settings: Any) -> None:
    async def main() -> None:
        async with world(**settings) as w:
            await asyncio.wait_for(test(w), 60)

    asyncio.run(main())


def test_the_token_and_the_secret_are_attached_here_and_never_sent_in() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        given = await harness.receive()
        assert (given["type"], given["attempt"], given["payload"]) == ("assign", ATTEMPT, {"n": 1})
        assert "the-secret" not in str(given)
        assert "token" not in given
        answer = await harness.ask("checkpoint.put", attempt=ATTEMPT, key="k", value=[1])
        assert (answer["ok"], answer["stored"], answer["value"]) == (True, True, [1])
        assert w.coordinator.calls[-1] == (
            "checkpoint",
            "Bearer the-secret",
            {"token": 7, "key": "k", "value": [1], "took_ms": None},
        )

    run(test)


def test_what_a_checkpoint_took_is_passed_on_where_it_is_a_number() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        said = [12.5, 0, -3, 1e300, "12", True, None, [1]]
        for n, took in enumerate(said):
            answer = await harness.ask("checkpoint.put", attempt=ATTEMPT, key=f"k{n}", took_ms=took, value=n)
            assert answer["ok"]
        taken = [body["took_ms"] for body in w.coordinator.seen("checkpoint")]
        assert taken == [12.5, 0, 0, 1e12, None, None, None, None]

    run(test)


def test_a_second_connection_is_turned_away_and_the_first_goes_on() -> None:
    async def test(w: World) -> None:
        await w.register()
        first = await w.connect()
        for _ in range(100):
            # by the kernel: a task that tries without end costs the sidecar nothing
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_unix_connection(w.directory / "c" / "c1" / wire.SOCKET_NAME)
        assert (await first.ask("ready", error=None, memory=1))["ok"]
        first.writer.close()
        await w.event("disconnected")
        again = await w.connect()
        assert (await again.ask("ready", error=None, memory=1))["ok"]

    run(test)


@pytest.mark.parametrize("anew", [False, True], ids=["the same sidecar", "one that starts anew"])
def test_only_who_has_the_ticket_of_the_first_connection_may_come_again(
    anew: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_PATIENCE", 0.2)
    hello = {"id": 1, "type": "hello", "protocol": wire.PROTOCOL, "sdk": "0", "python": "3", "attempt": ATTEMPT}
    attempts: dict[str, bytes] = {
        "no ticket": wire.encode(hello),
        "another": wire.encode({**hello, "ticket": "0" * 32}),
        "no text": wire.encode({**hello, "ticket": ["é"]}),
        "another request": wire.encode({"id": 1, "type": "finish", "attempt": ATTEMPT, "outcome": "completed"}),
        "no JSON": b"hello\n",
        "no end": b"x" * 1_000_000,
        "silence": b"",
    }

    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        first = await w.connect()
        await first.ask("started", attempt=ATTEMPT)
        if anew:
            await w.stop("sidecar")
            await w.start_sidecar()
            await w.register(running=True)
        first.writer.close()
        for name, said in attempts.items():
            other = await w.visit()
            with contextlib.suppress(ConnectionError):
                other.writer.write(said)
                answer = await asyncio.wait_for(other.reader.read(), 10)
                assert w.ticket is not None
                assert b"true" not in answer, name
                assert w.ticket.encode() not in answer, name
        again = await w.connect(ATTEMPT)
        assert (await again.ask("checkpoint.put", attempt=ATTEMPT, key="k", value=1))["stored"]

    run(test)


def test_a_ticket_is_the_sidecars_alone_and_goes_with_the_container() -> None:
    async def test(w: World) -> None:
        for known in (True, False):
            await w.register()
            w.ticket = None
            await w.connect()
            (kept,) = (w.directory / "c" / ".tickets").iterdir()
            assert (kept.read_text(), stat.S_IMODE(kept.stat().st_mode)) == (w.ticket, 0o600)
            assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
            if not known:
                await w.stop("sidecar")
                await w.start_sidecar()
            await w.control.ask("forget", "c1")
            assert list(kept.parent.iterdir()) == []

    run(test)


def test_messages_that_are_not_allowed_are_refused_by_name() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        other = await harness.ask("checkpoint.put", attempt="a2", key="k", value=1)
        assert other["error"]["code"] == "stale_attempt"
        unknown = await harness.ask("give-me-the-secret", attempt=ATTEMPT)
        assert unknown["error"]["code"] == "unknown_type"
        long_key = await harness.ask("checkpoint.put", attempt=ATTEMPT, key="k" * 513, value=1)
        assert long_key["error"]["code"] == "bad_request"
        assert "key" in long_key["error"]["message"]
        assert w.coordinator.seen("checkpoint") == []

    run(test)


def test_a_line_over_the_cap_ends_the_connection() -> None:
    async def test(w: World) -> None:
        await w.register()
        harness = await w.connect()
        block = b"x" * (1024 * 1024)
        with contextlib.suppress(ConnectionError):
            for _ in range(wire.MAX_LINE // len(block) + 1):
                harness.writer.write(block)
                await harness.writer.drain()
        await w.event("disconnected")

    run(test)


def test_only_some_values_are_under_way_at_once() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        w.coordinator.gate = asyncio.Event()
        w.coordinator.answers["checkpoint"] = {"stored": True}
        for n in range(40):
            put = {
                "id": 1000 + n,
                "type": "checkpoint.put",
                "attempt": ATTEMPT,
                "key": f"k{n}",
                "value": "x" * 70_000,
            }
            harness.writer.write(wire.encode(put))
        await eventually_async(lambda: w.coordinator.waiting == 8, "eight to be under way")
        w.coordinator.gate.set()
        answers = [m for m in [await harness.receive() for _ in range(41)] if "reply" in m]
        assert sorted(m["reply"] for m in answers) == list(range(1000, 1040))
        assert w.coordinator.most == 8

    run(test)


def test_a_curve_that_is_none_is_left_out_and_costs_no_run_its_end() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        curve = {"interval_ms": 250, "points": [1, 2]}
        process = {"pid": 7, "name": "<b>\x1b\u202e", "memory": 9}
        near = {"at_ms": 250.0, "memory": 9, "scratch": 8, "processes": [process], "killed": False}
        wrong: list[Any] = [
            {"interval_ms": 0, "points": [1]},
            {"interval_ms": 250, "points": [1] * 121},
            {"interval_ms": 250, "points": [-1]},
            {"interval_ms": 250, "points": [10**7]},
            {"interval_ms": 250, "points": []},
            {"interval_ms": 10**30, "points": [1]},
            {**curve, "near": {**near, "processes": [near["processes"][0]] * 6}},
            {**curve, "near": {**near, "scratch": -1}},
            {**curve, "near": {**near, "processes": [{"pid": 1, "name": "x" * 65, "memory": 1}]}},
            [1],
            "x",
        ]
        for given in (curve, {**curve, "near": near}, *wrong, None):
            said = {"progress": {"n": 1}, "metadata": None, "curve": given}
            assert (await harness.ask("report", attempt=ATTEMPT, **said))["ok"]
        told = [body["curve"] for body in w.coordinator.seen("report")]
        plain = {**curve, "near": None}
        assert told == [plain, {**curve, "near": near}, *[None] * 12]
        usage = {"peak_memory_bytes": 5, "exit_code": 0, "curve": wrong[1]}
        assert (await harness.ask("finish", attempt=ATTEMPT, outcome="completed", result=1, usage=usage))["ok"]
        (body,) = w.coordinator.seen("finish")
        assert (body["curve"], body["peak_memory_bytes"], body["outcome"]) == (None, 5, "completed")

    run(test)


def test_reports_without_end_are_slowed_down() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        for n in range(25):
            report = {"id": 1000 + n, "type": "report", "attempt": ATTEMPT, "progress": {"n": n}, "metadata": None}
            harness.writer.write(wire.encode(report))
        # the burst, and no more, before the first that has to wait
        await eventually_async(lambda: len(w.coordinator.seen("report")) >= 20, "the burst")
        assert len(w.coordinator.seen("report")) < 25
        await eventually_async(lambda: len(w.coordinator.seen("report")) == 25, "the rest")

    run(test)


def test_a_checkpoint_waits_for_a_coordinator_that_is_away() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        await w.stop("coordinator")
        asking = asyncio.create_task(harness.ask("checkpoint.put", attempt=ATTEMPT, key="k", value=1))
        await asyncio.wait({asking}, timeout=0.3)
        assert not asking.done()
        await w.start_coordinator()
        assert (await asking)["stored"]
        assert len(w.coordinator.seen("checkpoint")) == 1

    run(test)


def test_log_lines_are_kept_while_the_coordinator_is_away_and_block_past_the_budget() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        await w.stop("coordinator")
        # the task goes on: answered though nobody stores them yet
        await asyncio.wait_for(harness.ask("log", attempt=ATTEMPT, lines=[line(1)], dropped=0), 10)
        many = [line(n, "x" * 1000) for n in range(2, 12)]
        over = asyncio.create_task(harness.ask("log", attempt=ATTEMPT, lines=many, dropped=0))
        await asyncio.wait({over}, timeout=0.3)
        assert not over.done()
        await w.start_coordinator()
        await asyncio.wait_for(over, 20)
        stored = [entry["seq"] // 1024 for body in w.coordinator.seen("logs") for entry in body["lines"]]
        assert sorted(set(stored)) == list(range(1, 12))

    run(test, buffer_bytes=5000)


def test_an_attempt_has_so_many_bytes_of_lines_whatever_they_are_called() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        for start in range(0, 200_000, 20_000):
            many = [{**line(start + n, ""), "stream": "samovar"} for n in range(20_000)]
            await harness.ask("log", attempt=ATTEMPT, lines=many, dropped=0)
        stored = sum(len(body["lines"]) for body in w.coordinator.seen("logs"))
        # each line of these is written in some 70 bytes
        assert 130_000 < stored < 155_000

    run(test)


def test_a_progress_bar_costs_one_line_however_often_it_moves() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        text = "#" * 10_000
        for n in range(1, 1201):
            state = {**line(n, text), "partial": True, "replaces": n - 1 or None}
            await harness.ask("log", attempt=ATTEMPT, lines=[state], dropped=0)
        await harness.ask("log", attempt=ATTEMPT, lines=[line(1201, "the end")], dropped=0)
        assert w.coordinator.seen("logs")[-1]["lines"][-1]["message"] == "the end"
        assert sum(len(body["lines"]) for body in w.coordinator.seen("logs")) == 1201

    run(test)


def test_finish_comes_after_the_lines_before_it_and_tells_the_runner() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        await harness.ask("started", attempt=ATTEMPT)
        await harness.ask("log", attempt=ATTEMPT, lines=[line(1)], dropped=0)
        await harness.ask(
            "finish", attempt=ATTEMPT, outcome="completed", result={"a": 1}, lines=[line(2)], dropped=0,
            usage={"peak_memory_bytes": 5, "exit_code": 0}, container={"clean": True, "memory": 9, "oom_kills": 0},
        )  # fmt: skip
        assert [name for name, _, _ in w.coordinator.calls] == ["start", "logs", "finish"]
        event = await w.event("finished")
        assert (event["attempt"], event["clean"], event["memory"]) == (ATTEMPT, True, 9)

    run(test)


def test_a_release_comes_once_and_after_the_finish_that_has_left_it_open() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        account = {"clean": True, "memory": 9, "oom_kills": 0}
        release = {"attempt": ATTEMPT, "exit_code": 0, "container": account}
        assert (await harness.ask("released", **release))["error"]["code"] == "stale_attempt", "not finished"
        assert (await harness.ask("finish", attempt=ATTEMPT, outcome="completed", result=1, container=None))["ok"]
        finished = await w.event("finished")
        assert (finished["held"], finished["clean"]) == (True, False)
        assert (await harness.ask("released", **{**release, "attempt": "a0"}))["error"]["code"] == "stale_attempt"
        assert (await harness.ask("released", **release))["ok"]
        event = await w.event("released")
        assert (event["attempt"], event["clean"], event["memory"]) == (ATTEMPT, True, 9)
        assert (await harness.ask("released", **release))["error"]["code"] == "stale_attempt", "said before"

    run(test)


def test_a_start_says_how_long_it_took_to_connect_and_to_import_and_how_the_run_came_to_it() -> None:
    async def test(w: World) -> None:
        await w.register()
        placing = {"container": "c1", "seconds": 0.5, "starting": 2.0, "number": 1, "cause": "evicted",
                   "evicted_by": {"project": "p", "task": "t"}}  # fmt: skip
        await w.control.ask("assign", "c1", {"assignment": assignment(), "start": "cold", "placing": placing})
        harness = await w.connect()
        await harness.ask("ready", memory=9, error=None)
        await harness.ask("started", attempt=ATTEMPT)
        ((_, _, body),) = [call for call in w.coordinator.calls if call[0] == "start"]
        assert (body["start"], body["placing"]["cause"], body["placing"]["seconds"]) == ("cold", "evicted", 0.5)
        assert body["placing"]["evicted_by"] == {"project": "p", "task": "t"}
        assert body["starting"] >= 2.0, "what had passed before it was assigned counts too"
        assert body["importing"] >= 0

    run(test)


@pytest.mark.parametrize("start", ["warm", "stem", "waited"])
def test_a_container_that_stood_ready_took_no_time_to_start(start: str) -> None:
    async def test(w: World) -> None:
        await w.register()
        harness = await w.connect()
        await harness.ask("ready", memory=9, error=None)
        await w.control.ask("assign", "c1", {"assignment": assignment(), "start": start})
        await harness.ask("started", attempt=ATTEMPT)
        ((_, _, body),) = [call for call in w.coordinator.calls if call[0] == "start"]
        assert (body["start"], body["starting"], body["importing"]) == (start, 0.0, 0.0)

    run(test)


def test_of_a_start_that_nobody_has_seen_nothing_is_made_up() -> None:
    async def test(w: World) -> None:
        await w.register(running=True)
        harness = await w.connect(attempt=ATTEMPT)
        await harness.ask("started", attempt=ATTEMPT)
        ((_, _, body),) = [call for call in w.coordinator.calls if call[0] == "start"]
        assert (body["starting"], body["importing"]) == (None, None)

    run(test)


def test_a_sidecar_that_began_anew_between_finish_and_release_takes_no_release_for_another_ones() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        assert (await harness.ask("finish", attempt=ATTEMPT, outcome="completed", result=1, container=None))["ok"]
        assert (await w.event("finished"))["held"]
        await w.sidecar.stop()
        await w.start_sidecar()
        await w.register()
        harness = await w.connect()
        account = {"clean": True, "memory": 9, "oom_kills": 0}
        refused = await harness.ask("released", attempt=ATTEMPT, exit_code=0, container=account)
        assert refused["error"]["code"] == "stale_attempt"
        assert "released" not in {event["kind"] for event in await w.events()}

    run(test)


def test_a_container_that_gives_no_account_is_not_waited_for() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        assert (await harness.ask("finish", attempt=ATTEMPT, outcome="completed", result=1))["ok"]
        finished = await w.event("finished")
        assert (finished["held"], finished["clean"]) == (False, False)

    run(test)


def test_a_run_shorter_than_the_answer_to_its_start_ends_after_it_began() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        w.coordinator.slow["start"] = asyncio.Event()
        harness.writer.write(wire.encode({"id": 90, "type": "started", "attempt": ATTEMPT}))
        finishing = asyncio.create_task(harness.ask("finish", attempt=ATTEMPT, outcome="completed", result=1))
        await asyncio.wait({finishing}, timeout=0.2)
        assert w.coordinator.calls == []
        w.coordinator.slow["start"].set()
        assert (await finishing)["ok"]
        assert [name for name, _, _ in w.coordinator.calls] == ["start", "finish"]

    run(test)


def test_a_request_that_the_coordinator_breaks_over_is_given_up_and_others_go_on() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        w.coordinator.refuse["checkpoint"] = (500, "internal")
        answer = await harness.ask("checkpoint.put", attempt=ATTEMPT, key="k", value=1)
        assert answer["error"]["code"] == "coordinator_failed"
        assert "checkpoint" in answer["error"]["message"]
        assert (await harness.ask("log", attempt=ATTEMPT, lines=[line(1)], dropped=0))["ok"]

    run(test)


@pytest.mark.parametrize("action", ["batch", "start", "checkpoint", "checkpoint-get"])
def test_a_listener_that_is_not_the_fleets_ends_no_attempt(action: str) -> None:
    async def test(w: World) -> None:
        await w.register()
        # a start comes by a batch, and by a call of its own when that was not answered
        asked = {"batch": ["batch"], "start": ["batch", "start"]}.get(action, [action])
        w.coordinator.refuse_once |= dict.fromkeys(asked, (421, "misdirected"))
        await w.assign()
        harness = await w.connect()
        if action in ("batch", "start"):
            assert (await harness.ask("started", attempt=ATTEMPT))["ok"]
        elif action == "checkpoint":
            assert (await harness.ask("checkpoint.put", attempt=ATTEMPT, key="k", value=1))["ok"]
        else:
            assert (await harness.ask("checkpoint.get", attempt=ATTEMPT, key="k"))["ok"]
        assert not w.coordinator.refuse_once
        assert len(w.coordinator.seen("start" if action == "batch" else action)) == 1

    run(test)


def test_a_stale_attempt_is_told_to_both_sides() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        w.coordinator.refuse["checkpoint"] = (409, "stale_attempt")
        answer = await harness.ask("checkpoint.put", attempt=ATTEMPT, key="k", value=1)
        assert answer["error"]["code"] == "stale_attempt"
        assert (await w.event("stale"))["attempt"] == ATTEMPT

    run(test)


def test_a_wait_goes_with_the_token_and_a_refusal_comes_back_with_its_fields() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        spec = {"seconds": 5}
        asked = {"attempt": ATTEMPT, "key": "k", "kind": "sleep", "name": None, "spec": spec}
        assert (await harness.ask("wait", **asked))["ok"]
        (body,) = w.coordinator.seen("wait")
        assert (body["kind"], body["spec"], body["token"]) == ("sleep", spec, assignment()["token"])
        w.coordinator.refuse_once["wait"] = (422, "bad_payload")
        refused = (await harness.ask("wait", **asked))["error"]
        assert (refused["code"], refused["status"], refused["fields"]) == ("bad_payload", 422, [])
        assert (await harness.ask("wait", **{**asked, "kind": "nap"}))["error"]["code"] == "bad_request"
        assert (await harness.ask("wait.result", attempt=ATTEMPT, key="k", index=2))["ok"]
        assert w.coordinator.seen("wait-result")[0]["index"] == 2
        assert (await harness.ask("finish", attempt=ATTEMPT, outcome="waiting", waits=["k"]))["ok"]
        assert w.coordinator.seen("finish")[0]["waits"] == ["k"]
        assert (await w.event("finished"))["outcome"] == "waiting"

    run(test)


def test_a_result_that_is_refused_still_ends_the_run_with_the_reason() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        w.coordinator.refuse_once["finish"] = (413, "too_large")
        ending = {"result": "x", "usage": {"peak_memory_bytes": 2**40, "exit_code": 0}}
        assert (await harness.ask("finish", attempt=ATTEMPT, outcome="completed", **ending))["ok"]
        (body,) = w.coordinator.seen("finish")
        assert (body["outcome"], body["result"], body["retry"]["allowed"]) == ("failed", None, False)
        assert body["peak_memory_bytes"] is None, "what was refused is not sent again"
        assert body["error"]["message"] == "finish refused"
        assert (await w.event("finished"))["outcome"] == "failed"

    run(test)


DEEP: list[Any] = []
for _ in range(300):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "ending",
    [{"result": DEEP}, {"usage": [1]}, {"outcome": "won"}, {"lines": [1]}, {"error": "no"}],
    ids=["deep", "usage", "outcome", "lines", "error"],
)
def test_an_end_that_is_no_end_still_ends_the_run(ending: dict[str, Any]) -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        fields = {"attempt": ATTEMPT, "outcome": "completed", "container": [], **ending}
        assert (await harness.ask("finish", **fields))["ok"]
        assert (await w.event("finished"))["attempt"] == ATTEMPT
        assert len(w.coordinator.seen("finish")) == 1

    run(test)


def test_every_request_is_answered_even_where_the_sidecar_fails() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        assert (await harness.receive())["type"] == "assign"
        assert (await harness.ask("ready", error="no", memory=-1))["ok"]
        assert (await w.event("ready"))["error"]["type"] == "ImportError"
        # half a surrogate pair, as an escape: no harness of ours lets one through
        harness.writer.write(
            b'{"id": 900, "type": "checkpoint.put", "attempt": "a1", "key": "\\ud800", "value": 1}\n'
        )
        assert not (await harness.receive())["ok"]

    run(test)


def test_killed_and_started_again_it_is_told_everything_and_goes_on() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        await harness.receive()
        before = w.control.boot
        mounted = (w.directory / "c" / "c1").stat().st_ino
        await w.stop("sidecar")
        assert await asyncio.wait_for(harness.reader.read(), 10) == b""
        await w.start_sidecar()
        state = await w.register(running=True)
        assert w.control.boot != before
        assert state["attempt"] == ATTEMPT
        assert (w.directory / "c" / "c1").stat().st_ino == mounted
        again = await w.connect(ATTEMPT)
        assert (await again.ask("checkpoint.put", attempt=ATTEMPT, key="k", value=2))["stored"]

    run(test)


def test_a_runner_that_starts_again_hears_that_the_run_has_begun() -> None:
    """It was said while nobody listened: without it the run would be killed as one that never began."""

    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        await harness.ask("started", attempt=ATTEMPT)
        await w.event("started")
        seen = len(await w.events())
        await w.register(running=True)
        assert [e["kind"] for e in (await w.events())[seen:]] == ["connected", "started"]

    run(test)


def test_a_run_that_has_not_begun_is_not_said_to_have() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        harness = await w.connect()
        await w.register(running=True)
        assert {e["kind"] for e in await w.events()} == {"connected"}
        assert (await harness.receive())["type"] == "assign"

    run(test)


def test_the_directory_of_a_container_that_is_gone_goes_whoever_made_it() -> None:
    async def test(w: World) -> None:
        await w.register()
        directory = w.directory / "c" / "c1"
        await w.stop("sidecar")
        assert directory.is_dir()
        await w.start_sidecar()
        await w.control.ask("forget", "c1")
        assert not directory.exists()

    run(test)


def test_a_container_that_can_not_be_listened_for_is_not_registered() -> None:
    async def test(w: World) -> None:
        (w.directory / "c").mkdir()
        (w.directory / "c" / "c1").touch()
        for _ in range(2):
            with pytest.raises(Refusal, match=r"not_listening: .*cannot listen"):
                await w.register()

    run(test)


def test_the_ticket_stays_where_a_sidecar_that_starts_anew_cannot_listen_at_first() -> None:
    async def test(w: World) -> None:
        await w.register()
        first = await w.connect()
        directory = w.directory / "c" / "c1"
        await w.stop("sidecar")
        first.writer.close()
        directory.rename(w.directory / "aside")
        directory.touch()
        await w.start_sidecar()
        with pytest.raises(Refusal, match="not_listening"):
            await w.register()
        directory.unlink()
        await w.register()
        other = await w.visit()
        hello = {"protocol": wire.PROTOCOL, "sdk": "0", "python": "3", "attempt": None}
        assert (await other.ask("hello", **hello))["error"]["code"] == "no_ticket"
        assert (await (await w.connect()).ask("ready", error=None, memory=1))["ok"]

    run(test)


def test_a_container_that_comes_back_without_its_run_is_told_and_gets_no_second_copy() -> None:
    async def test(w: World) -> None:
        await w.register(running=True)
        harness = await w.connect(None)
        assert (await w.event("idle"))["attempt"] == ATTEMPT
        assert (await harness.ask("ready", error=None, memory=1))["ok"]
        assert harness.inbox == []

    run(test)


def test_cancel_reaches_the_container_or_says_that_it_cannot() -> None:
    async def test(w: World) -> None:
        await w.register()
        await w.assign()
        body = {"attempt": ATTEMPT, "reason": "timeout", "grace": 3.0, "message": "too slow"}
        assert not (await w.control.ask("cancel", "c1", body))["told"]
        harness = await w.connect()
        await harness.receive()
        assert (await w.control.ask("cancel", "c1", body))["told"]
        told = await harness.receive()
        assert told == {"type": "cancel", **body}

    run(test)


def test_names_become_directories_and_nothing_else() -> None:
    async def test(w: World) -> None:
        await w.register()
        # any user of the container may open it; the mount is what tells containers apart
        assert stat.S_IMODE((w.directory / "c" / "c1" / wire.SOCKET_NAME).stat().st_mode) == 0o666
        for name in ("../evil", ".hidden", "", "x" * 65):
            with pytest.raises(Refusal, match="bad_name"):
                await w.control.ask("register", name, {})
        await w.control.ask("forget", "c1")
        assert not (w.directory / "c" / "c1").exists()

    run(test)


def test_the_control_socket_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.sock"
    command = [sys.executable, "-m", "sidecar", "--coordinator-url", "http://127.0.0.1:9"]
    with subprocess.Popen([*command, "--control-socket", str(path)]) as process:
        try:
            control = BlockingControl(path)
            eventually(control.answers, "the sidecar to answer")
            control.close()
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        finally:
            process.terminate()
