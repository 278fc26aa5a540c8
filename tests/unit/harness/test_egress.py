"""What process 1 does for a run that reaches out: a relay that is there for the run, and only then."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from samovar import wire

from tests.unit.harness.listener import Container, close
from tests.waiting import eventually

Make = Callable[..., Container]

CLIENTS = """
import os, signal, socket, threading, time
from samovar import task
def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=20)
def everything(connection):
    data = b""
    while part := connection.recv(65536):
        data += part
    return data
def talk(port, text):
    with connect(port) as connection:
        connection.sendall(text.encode())
        connection.shutdown(socket.SHUT_WR)
        return everything(connection).decode()
@task
def say(port: int, text: str): return talk(port, text)
@task
def nothing(): return os.getppid()
@task
def much(port: int, size: int):
    with connect(port) as connection:
        sender = threading.Thread(target=lambda: (connection.sendall(bytes(size)),
                                                  connection.shutdown(socket.SHUT_WR)))
        sender.start()
        count = 0
        while part := connection.recv(1 << 20):
            count += len(part)
        sender.join()
    return count
@task
def crowd(port: int, size: int):
    def one(number):
        results[number] = talk(port, str(number)) == f"{number}"
    results = [False] * size
    threads = [threading.Thread(target=one, args=(n,)) for n in range(size)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return sum(results)
@task
def flood(port: int, size: int):
    # many that are open at once, most of which never read; and what the relay then has in memory, in MiB
    held = [connect(port) for _ in range(size)]
    for one in held:
        one.setblocking(False)
        try:
            while True:
                one.send(bytes(65536))
        except BlockingIOError:
            pass
    said = talk(port, "still here")
    resident = int(open(f"/proc/{relay()}/statm").read().split()[1]) * 4096 // 1024**2
    for one in held:
        one.close()
    return [said, resident]
@task
def refused(port: int):
    try:
        with connect(port) as connection:  # which may be reset before it is told that it is connected
            return everything(connection).decode()
    except ConnectionResetError:
        return "reset"
def relay():
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = open(f"/proc/{name}/stat").read()
            except OSError:
                continue
            parent, session = stat.rpartition(")")[2].split()[1:4:2]
            zygote = os.getppid()
            first = open(f"/proc/{zygote}/stat").read().rpartition(")")[2].split()[1]
            if parent == first and int(name) != zygote:
                return int(name)
@task
def murder(port: int):
    held = connect(port)
    held.sendall(b"x")
    assert held.recv(1) == b"x"
    number = relay()
    os.kill(number, signal.SIGKILL)
    try:
        lost = held.recv(1) == b""
    except OSError:
        lost = True
    for _ in range(100):
        try:
            return [lost, talk(port, "again"), relay() != number]
        except OSError:
            pass
@task
def stop(port: int):
    with connect(port) as held:
        held.sendall(b"x")
        assert held.recv(1) == b"x"
        os.kill(relay(), signal.SIGSTOP)
    return "stopped"
@task
def descriptors(port: int):
    with connect(port) as held:
        held.sendall(b"x")
        held.recv(1)
        folder = f"/proc/{relay()}/fd/"
        return sorted(os.readlink(folder + name).partition(":")[0] for name in os.listdir(folder) if int(name) > 2)
@task
def leave(port: int):
    ready, connected = os.pipe()
    if os.fork() == 0:
        os.setsid()
        while True:  # also while the end comes, and after it
            try:
                with connect(port) as held:
                    held.sendall(b"x")
                    held.recv(1)
                    os.write(connected, b"x")
            except OSError:
                pass
    os.read(ready, 1)
    return "left"
@task
def hold(port: int):
    held = connect(port)
    held.sendall(b"x")
    held.recv(1)
    os.write(held.fileno(), b"y")
    return "held"
@task
def look(port: int):
    with connect(port) as held:
        held.sendall(b"x")
        held.recv(1)
        number = relay()
        found = {}
        for name in ("fd", "mem", "environ"):
            try:
                os.listdir(f"/proc/{number}/{name}") if name == "fd" else open(f"/proc/{number}/{name}").close()
                found[name] = "open"
            except OSError as error:
                found[name] = type(error).__name__
        return found
"""


class Upstream:
    """The sidecar's side: answers CONNECT as `decide` says, and echoes what then comes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: What was asked: the first line of each connection with a CONNECT, "" of one without.
        self.asked: list[str] = []
        self.open = 0
        self.decide: Callable[[str], bytes] = lambda line: b"HTTP/1.1 200 Connected\r\n\r\n"
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(128)
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        for one in (self._server, *self._sockets):
            close(one)

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._server.accept()
            except OSError:
                return
            self._sockets.append(peer)
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with self._lock:
            self.open += 1
        with contextlib.suppress(OSError), peer:
            data = peer.recv(65536)
            if data.startswith(b"CONNECT"):
                head, _, data = data.partition(b"\r\n\r\n")
                line = head.partition(b"\r\n")[0]
                self.asked.append(line.decode())
                answer = self.decide(line.decode())
                peer.sendall(answer)
                if b" 200 " not in answer:
                    return
            else:
                self.asked.append("")
            while data or (data := peer.recv(65536)):
                peer.sendall(data)
                data = b""
            peer.shutdown(socket.SHUT_WR)
        with self._lock:
            self.open -= 1


def free_ports(count: int) -> list[int]:
    found = [socket.socket() for _ in range(count)]
    for one in found:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in found]
    for one in found:
        one.close()
    return ports


class World:
    """A harness with a proxy and one host, and the sidecar's side of both."""

    def __init__(self, container: Make, **environment: str) -> None:
        self.proxy, self.host = free_ports(2)
        told = {
            "proxy": f"127.0.0.1:{self.proxy}",
            "relays": [["127.0.0.1", self.host, "db.example"]],
            "direct": [],
        }
        #: What is asked for before anything of a client of the host.
        self.connect = f"CONNECT db.example:{self.host} HTTP/1.1"
        self.one = container(CLIENTS, SAMOVAR_EGRESS=json.dumps(told), **environment)
        self.upstream = Upstream(self.one.sidecar.path.parent / wire.EGRESS_NAME)

    def result(self, task: str, attempt: str = "a1", **payload: Any) -> Any:
        finish = self.one.run(task, attempt, payload=payload)
        assert finish["outcome"] == wire.COMPLETED, finish
        self.finish = finish
        return finish["result"]


@pytest.fixture
def world(container: Make) -> Iterator[World]:
    made = World(container)
    yield made
    made.upstream.stop()


def test_a_client_of_one_host_needs_to_know_nothing(world: World) -> None:
    assert world.result("say", port=world.host, text="hello") == "hello"
    assert world.upstream.asked == [world.connect]
    assert world.finish["container"]["clean"] is True
    assert world.finish["container"]["leftovers"] == 0


def test_what_goes_to_the_proxy_is_handed_on_as_it_is(world: World) -> None:
    assert world.result("say", port=world.proxy, text="GET http://x/ HTTP/1.1") == "GET http://x/ HTTP/1.1"
    assert world.upstream.asked == [""]


def test_a_run_that_reaches_nothing_has_no_relay(world: World) -> None:
    world.result("nothing")
    assert world.upstream.asked == []
    assert world.one.others() == []


def test_the_relay_ends_with_the_run_and_its_connections_with_it(world: World) -> None:
    for number in range(3):
        assert world.result("hold", f"a{number}", port=world.host) == "held"
        assert world.finish["container"]["clean"] is True
        eventually(lambda: world.upstream.open == 0, "the connections to be closed")
        eventually(lambda: world.one.others() == [], "the relay to be gone")
    assert len(world.upstream.asked) == 3


def test_a_process_that_is_left_reaches_nothing_any_more(world: World) -> None:
    assert world.result("leave", port=world.host) == "left"
    assert world.finish["container"]["leftovers"] == 1
    with socket.socket(socket.AF_UNIX) as last:  # what is in the line before it is taken by then
        last.connect(str(world.upstream.path))
        last.sendall(b"last")
        assert last.recv(16) == b"last"
    eventually(lambda: world.upstream.open == 0, "the connections to be closed")
    before = len(world.upstream.asked)
    assert world.result("say", "a2", port=world.host, text="hello") == "hello"
    assert len(world.upstream.asked) == before + 1


def test_a_large_amount_passes_both_ways(world: World) -> None:
    assert world.result("much", port=world.host, size=50_000_000) == 50_000_000


def test_many_connections_at_once(world: World) -> None:
    assert world.result("crowd", port=world.host, size=100) == 100


def test_slow_readers_hold_up_nobody_else(world: World) -> None:
    said, resident = world.result("flood", port=world.host, size=120)
    assert said == "still here"
    assert resident < 48
    assert world.result("say", "a2", port=world.host, text="hello") == "hello"


@pytest.mark.parametrize("header", ["", "X-Samovar-Refused: not_allowed\r\n"])
def test_a_refusal_is_a_reset(world: World, header: str) -> None:
    """The sidecar says why in the run's log; whoever else has answered does not."""
    text = "db.example is not there"
    answer = f"HTTP/1.1 403 Forbidden\r\n{header}Content-Length: {len(text)}\r\n\r\n{text}"
    world.upstream.decide = lambda line: answer.encode()
    assert world.result("refused", port=world.host) == "reset"
    said = [f"db.example:{world.host} is not reached: {text}"] if not header else []
    assert world.one.messages(stream="samovar") == said


def test_a_sidecar_that_is_away_is_told_of(world: World) -> None:
    world.upstream.stop()
    world.upstream.path.unlink()
    assert world.result("refused", port=world.host) == "reset"
    assert any("does not answer" in line for line in world.one.messages(stream="samovar"))
    answer = world.result("say", "a2", port=world.proxy, text="GET http://x/ HTTP/1.1\r\n\r\n")
    assert answer.startswith("HTTP/1.1 503 ")
    assert "does not answer" in answer


def test_a_run_that_ends_the_relay_gets_another(world: World) -> None:
    assert world.result("murder", port=world.host) == [True, "again", True]
    assert world.finish["container"]["clean"] is True


def test_a_run_that_stops_the_relay_stops_its_own(world: World) -> None:
    assert world.result("stop", port=world.host) == "stopped"
    assert world.result("say", "a2", port=world.host, text="hello") == "hello"


@pytest.mark.skipif(os.geteuid() == 0, reason="root looks into every process")
def test_nothing_of_the_relay_can_be_read(world: World) -> None:
    assert set(world.result("look", port=world.host).values()) == {"PermissionError"}


def test_before_and_between_runs_whatever_connects_is_turned_away(world: World) -> None:
    eventually(lambda: world.one.sidecar.of(wire.READY), "the imports")
    for attempt in ("a1", "a2"):
        with (
            pytest.raises(ConnectionResetError),
            socket.create_connection(("127.0.0.1", world.host), timeout=20) as connection,
        ):
            connection.recv(1)
        assert world.upstream.asked == [world.connect] * (attempt == "a2")
        assert world.result("say", attempt, port=world.host, text="hello") == "hello"
        eventually(lambda: world.one.others() == [], "the relay to be gone")


def test_a_place_that_is_taken_costs_what_it_leads_to_alone(container: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = {"proxy": None, "relays": [["127.0.0.1", port, "db.example"]], "direct": []}
        one = container(CLIENTS, SAMOVAR_EGRESS=json.dumps(told))
        assert one.run("nothing")["outcome"] == wire.COMPLETED
    said = f"samovar: db.example:{port} is not reached: Address already in use at 127.0.0.1"
    assert said in one.messages(stream="stderr")


VARIABLES = """
import os
from samovar import task
FOUND = {name: os.environ.get(name) for name in ("HTTP_PROXY", "https_proxy", "NO_PROXY", "SAMOVAR_EGRESS")}
@task
def at_import(): return FOUND
@task(start="fresh")
def fresh(): return [FOUND, {name: os.environ.get(name) for name in FOUND}]
"""


def test_the_variables_are_the_same_at_import_and_in_every_run(container: Make) -> None:
    (port,) = free_ports(1)
    told = {"proxy": f"127.0.0.1:{port}", "relays": [], "direct": ["db.example"]}
    one = container(VARIABLES, SAMOVAR_EGRESS=json.dumps(told))
    expected = {
        "HTTP_PROXY": f"http://127.0.0.1:{port}",
        "https_proxy": f"http://127.0.0.1:{port}",
        "NO_PROXY": "localhost,127.0.0.1,::1,db.example",
        "SAMOVAR_EGRESS": None,
    }
    assert one.run("at-import")["result"] == expected
    assert one.run("fresh", "a2")["result"] == [expected, expected]


def test_without_a_network_there_are_no_variables(container: Make) -> None:
    assert set(container(VARIABLES).run("at-import")["result"].values()) == {None}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root looks into the relay")
def test_the_relay_has_nothing_of_process_one(world: World) -> None:
    found = world.result("descriptors", port=world.host)
    # two listeners, the line for notes, a selector, and two sides; not process 1's connection, nor the run's
    assert found == ["anon_inode", "pipe", "socket", "socket", "socket", "socket"]
