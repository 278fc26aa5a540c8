"""Egress as a whole: the sidecar, its egress process, a coordinator that records, and a server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from samovar import wire

from tests.control import Refusal
from tests.unit.sidecar.egress.world import Client
from tests.unit.sidecar.test_sidecar import ATTEMPT, World, assignment, line, run
from tests.waiting import eventually_async

NAME = "db.internal"


@contextlib.contextmanager
def echoing() -> Iterator[int]:
    """The port of a server that says back what it hears."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                threading.Thread(target=speak, args=(sock,), daemon=True).start()

    def speak(sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            while data := sock.recv(65536):
                sock.sendall(data)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def scenario(test: Callable[[World, str], Coroutine[Any, Any, None]], tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(f"127.0.0.1 {NAME} other.internal # here\n")
    with echoing() as port:
        run(lambda w: test(w, f"{NAME}:{port}"), hosts=hosts)


def egress(target: str, **more: Any) -> dict[str, Any]:
    return {"mode": "list", "hosts": [target], "private": [target], **more}


async def register(w: World, target: str, *, running: bool = False, **more: Any) -> None:
    body: dict[str, Any] = {"egress": egress(target, **more)}
    if running:
        body["assignment"] = assignment()
    await w.control.ask("register", "c1", body)


async def visit(w: World) -> Client:
    return Client(*await asyncio.open_unix_connection(w.directory / "c" / "c1" / wire.EGRESS_NAME))


async def tunnel(w: World, target: str) -> Client:
    client = await visit(w)
    client.writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    assert (await client.head()).status == 200
    client.writer.write(b"hello")
    assert await client.reader.readexactly(5) == b"hello"
    return client


def children() -> list[int]:
    """The egress processes of this one."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if b"sidecar.egress" in words and parent == os.getpid():
                found.append(int(entry.name))
    return found


def told(pid: int) -> tuple[bytes, bytes]:
    """Environment and command line of a process."""
    return Path(f"/proc/{pid}/environ").read_bytes(), Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_run_reaches_a_host_and_its_account_comes_before_its_end(tmp_path: Path) -> None:
    async def test(w: World, target: str) -> None:
        await register(w, target)
        assert (await (await visit(w)).ask(f"CONNECT {target} HTTP/1.1\r\n\r\n")).refused == "no_run"
        await w.assign()
        harness = await w.connect()
        await harness.ask("started", attempt=ATTEMPT)
        await harness.ask("log", attempt=ATTEMPT, lines=[line(1), line(2)], dropped=0)
        client = await tunnel(w, target)
        answer = await (await visit(w)).ask("CONNECT other.internal:1 HTTP/1.1\r\nHost: other.internal:1\r\n\r\n")
        assert (answer.status, answer.refused) == (403, "not_allowed")
        await harness.ask("finish", attempt=ATTEMPT, outcome="completed", result=1, lines=[line(3)], dropped=0)
        assert await client.closed() == b""
        names = [name for name, _, _ in w.coordinator.calls]
        assert names.index("egress") < names.index("finish")
        name, _, port = target.rpartition(":")
        hosts = {(h["host"], h["port"]): h for h in w.coordinator.seen("egress")[-1]["hosts"]}
        assert (hosts[name, int(port)]["sent"], hosts[name, int(port)]["received"]) == (5, 5)
        assert hosts["other.internal", 1]["refused"] == 1
        assert w.coordinator.seen("egress")[-1]["token"] == 7
        lines = [entry for body in w.coordinator.seen("logs") for entry in body["lines"]]
        lines += w.coordinator.seen("finish")[0]["lines"]
        said = [entry for entry in lines if entry.get("logger") == "samovar.egress"]
        assert [(entry["level"], entry["stream"]) for entry in said] == [
            ("warning", "samovar"),
            ("info", "samovar"),
        ]
        assert 'add "other.internal:1" to @task(network=[' in said[0]["message"]
        assert said[1]["message"].startswith(f"{target}: 5 B sent, 5 B received in ")
        # in the order in which they came, each with a number of its own
        numbers = [entry["seq"] for entry in sorted(lines, key=lambda entry: entry["seq"])]
        assert numbers == [entry["seq"] for entry in lines]
        assert len(set(numbers)) == len(numbers) == 5
        assert (
            await (await visit(w)).ask(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")
        ).refused == "no_run"

    scenario(test, tmp_path)


def test_a_run_without_connections_pays_nothing(tmp_path: Path) -> None:
    async def test(w: World, target: str) -> None:
        await register(w, target)
        await w.assign()
        harness = await w.connect()
        await harness.ask("finish", attempt=ATTEMPT, outcome="completed", result=1, lines=[], dropped=0)
        assert [name for name, _, _ in w.coordinator.calls] == ["finish"]

    scenario(test, tmp_path)


def test_a_container_without_egress_has_no_socket_and_no_process(tmp_path: Path) -> None:
    async def test(w: World, target: str) -> None:
        await w.register()
        assert sorted(path.name for path in (w.directory / "c" / "c1").iterdir()) == [
            wire.RUN_SOCKET_NAME,
            wire.SOCKET_NAME,
        ]
        assert children() == []

    scenario(test, tmp_path)


def test_the_process_that_dies_is_started_again_and_told_everything(tmp_path: Path) -> None:
    async def test(w: World, target: str) -> None:
        await register(w, target, bytes=18)
        await w.assign()
        harness = await w.connect()
        await harness.ask("started", attempt=ATTEMPT)
        client = await tunnel(w, target)
        (pid,) = children()
        await eventually_async(lambda: w.coordinator.seen("egress"), "an account of the run while it goes on")
        os.kill(pid, signal.SIGKILL)
        assert await client.closed() == b""

        async def again() -> bool:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await tunnel(w, target)
                return True
            return False

        # of its 18 bytes the run has 8 left: what it had in the process before counts
        answer: list[bool] = []

        async def over() -> bool:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                client = await visit(w)
                client.writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
                assert (await client.head()).status == 200
                client.writer.write(b"nine bytes")
                answer.append(await client.closed() == b"")
            return bool(answer)

        await eventually_async(over, "the new process")
        assert answer == [True]
        assert children() != [pid]
        await harness.ask("finish", attempt=ATTEMPT, outcome="completed", result=1, lines=[], dropped=0)
        (host,) = w.coordinator.seen("egress")[-1]["hosts"]
        assert (host["connections"], host["sent"], host["received"]) == (2, 5, 5)

    scenario(test, tmp_path)


def test_it_goes_when_the_sidecar_goes(tmp_path: Path) -> None:
    async def test(w: World, target: str) -> None:
        await register(w, target)
        (pid,) = children()
        await w.assign()
        await tunnel(w, target)
        await w.stop("sidecar")
        # what was reached so far is not lost with it
        assert w.coordinator.seen("egress")[-1]["hosts"][0]["sent"] == 5
        await eventually_async(lambda: not Path(f"/proc/{pid}").exists(), "the egress process to go")
        # nothing listens any more, and a new sidecar listens again at the same place
        await w.start_sidecar()
        await register(w, target, running=True)
        await tunnel(w, target)

    scenario(test, tmp_path)


def test_it_holds_no_token_and_knows_no_coordinator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMOVAR_SIDECAR_COORDINATOR_URL", "http://coordinator.example:7420")
    monkeypatch.setenv("SAMOVAR_API_KEY", "the-key")

    async def test(w: World, target: str) -> None:
        await register(w, target)
        await w.assign()
        await tunnel(w, target)
        (pid,) = children()
        environment, arguments = told(pid)
        assert b"PATH=" in environment
        for secret in (b"SAMOVAR", b"coordinator", b"the-key"):
            assert secret not in environment + arguments

    scenario(test, tmp_path)


def test_the_account_of_a_container_that_dies_is_kept(tmp_path: Path) -> None:
    async def test(w: World, target: str) -> None:
        await register(w, target)
        await w.assign()
        await w.connect()
        await tunnel(w, target)
        await w.control.ask("forget", "c1")
        await eventually_async(lambda: w.coordinator.seen("egress"), "the account")
        (host,) = w.coordinator.seen("egress")[-1]["hosts"]
        assert (host["sent"], host["received"]) == (5, 5)
        assert not (w.directory / "c" / "c1").exists()

    scenario(test, tmp_path)


def test_rules_that_name_no_host_are_refused_by_name(tmp_path: Path) -> None:
    async def test(w: World, target: str) -> None:
        for wrong in ("http://a.example:443", "a.example:0", "10.1:5432", "a..example:1", "*.10.0.0.1:5"):
            with pytest.raises(Refusal, match="bad_egress") as caught:
                await w.control.ask("register", "c1", {"egress": {"mode": "list", "hosts": [wrong]}})
            assert wrong in str(caught.value)

    scenario(test, tmp_path)
