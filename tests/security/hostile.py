"""A real sidecar process, a coordinator that writes down what reaches it, and a process 1 that says anything."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from samovar import wire

from tests.control import BlockingControl
from tests.waiting import eventually


@dataclass
class Coordinator:
    """Takes everything; keeps of each call its action, attempt, bearer and body (a long one cut)."""

    calls: list[tuple[str, str, str, bytes]] = field(default_factory=list)
    received: int = 0
    #: What is answered instead of `{}`, by action.
    answers: dict[str, bytes] = field(default_factory=dict)

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        told = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                *_, attempt, action = self.path.split("/")
                told.received += len(body)
                if action == "batch":
                    lines = body.split(b"\n")
                    answer = b"".join(map(told.one_of, lines[:-1:2], lines[1::2]))
                else:
                    answer = told.take(action, attempt, self.headers["authorization"], body)
                self.send_response(200)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()

    def take(self, action: str, attempt: str, bearer: str, body: bytes) -> bytes:
        self.calls.append((action, attempt, bearer, body[: 1024 * 1024]))
        return self.answers.get(action, b"{}")

    def one_of(self, head: bytes, body: bytes) -> bytes:
        """The two lines of an answer to an item of a batch."""
        item = json.loads(head)
        answer = self.take(item["action"], item["attempt"], f"Bearer {item['secret']}", body)
        return b'{"status":200,"alone":false}\n%b\n' % answer

    def seen(self, attempt: str, action: str | None = None) -> list[dict[str, Any]]:
        return [json.loads(b) for name, of, _, b in self.calls if of == attempt and action in (None, name)]


class Process1:
    """One connection to the socket of a container; says bytes."""

    def __init__(self, path: Path, patience: float = 20) -> None:
        def connected() -> socket.socket | None:
            end = socket.socket(socket.AF_UNIX)
            with contextlib.suppress(OSError):
                end.connect(str(path))
                return end
            end.close()
            return None

        end = eventually(connected, "the sidecar to listen", patience)
        assert end is not None
        self.socket = end
        self.socket.settimeout(20)
        self._data = b""
        self.number = 0
        #: What came unasked.
        self.told: list[dict[str, Any]] = []

    def say(self, data: bytes) -> bool:
        """Whether all of it was taken."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def write(self, kind: str, /, **fields: Any) -> int:
        self.number += 1
        self.say(json.dumps({"id": self.number, "type": kind, **fields}).encode() + b"\n")
        return self.number

    def ask(self, kind: str, /, **fields: Any) -> dict[str, Any]:
        return self.reply(self.write(kind, **fields))

    def reply(self, number: int | None) -> dict[str, Any]:
        while True:
            message = self.read()
            assert message is not None, "the sidecar closed the connection"
            if "reply" not in message:
                self.told.append(message)
            elif message["reply"] == number:
                return message

    def read(self) -> dict[str, Any] | None:
        """The next message; None at the end of the connection."""
        while b"\n" not in self._data:
            try:
                more = self.socket.recv(1024 * 1024)
            except ConnectionError:
                more = b""
            if not more:
                return None
            self._data += more
        line, self._data = self._data.split(b"\n", 1)
        return dict(json.loads(line))

    def ended(self) -> bool:
        """Whether the sidecar ends the connection; what it says before goes unheard."""
        while self.read() is not None:
            pass
        return True

    def close(self) -> None:
        self.socket.close()


class Sidecar:
    """The process, with the containers that a runner would have told it of."""

    def __init__(self, root: Path, coordinator: Coordinator, process: subprocess.Popen[bytes]) -> None:
        self.root, self.coordinator, self.process = root, coordinator, process
        self.control = BlockingControl(root / "control.sock")
        self.count = 0
        self.tickets: dict[str, str] = {}

    def container(self, *, assigned: bool = True, egress: dict[str, Any] | None = None) -> str:
        """The name of a new container; its attempt is called as it is."""
        self.count += 1
        name = f"c{self.count}"
        self.control.ask("register", name, {"egress": egress})
        if assigned:
            self.assign(name)
        return name

    def assign(self, name: str, attempt: str | None = None) -> None:
        body = {"assignment": assignment(attempt or name), "start": "cold"}
        self.control.ask("assign", name, body)

    def path(self, name: str) -> Path:
        return self.root / "c" / name / wire.SOCKET_NAME

    def visit(self, name: str, patience: float = 20) -> Process1:
        return Process1(self.path(name), patience)

    def greeted(self, name: str, attempt: str | None = None) -> Process1:
        """A connection that has said hello."""
        process1 = self.visit(name)
        answer = process1.ask(
            "hello", protocol=1, sdk="0", python="3", attempt=attempt, ticket=self.tickets.get(name)
        )
        self.tickets[name] = answer["ticket"]
        return process1

    def events(self, name: str) -> list[dict[str, Any]]:
        """What the runner heard of a container, but for that it has connected."""
        said = self.control.so_far()
        return [event for event in said if event["container"] == name and event["kind"] != "connected"]

    def memory(self) -> int:
        """Resident bytes."""
        return _resident(self.process.pid)

    def egress(self) -> int:
        """The process id of its egress process."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        (pid,) = map(int, children)
        return pid

    def egress_memory(self) -> int:
        """Resident bytes of that."""
        return _resident(self.egress())

    def peak(self) -> int:
        """The most resident bytes so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def said(self) -> str:
        """The sidecar's own log."""
        return (self.root / "log").read_text("utf-8", "replace")


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def assignment(attempt: str) -> dict[str, Any]:
    return {
        "attempt": attempt, "token": 7, "secret": f"secret-of-{attempt}", "run": "r1", "number": 1, "project": "p",
        "task": "t", "version": "20260101.1", "deployment": "d", "image": "i", "payload": {"n": 1},
        "limits": {"memory": 1, "cpu": 1, "timeout": 1, "warm": True}, "trace_id": "0", "lease": 30,
    }  # fmt: skip


@contextlib.contextmanager
def sidecar(hosts: str | None = None, environment: dict[str, str] | None = None) -> Iterator[Sidecar]:
    """`hosts`: names that it resolves so. `environment`: what it has beside this process's own."""
    coordinator = Coordinator()
    with tempfile.TemporaryDirectory(prefix="smv") as directory, coordinator.serving() as url:
        root = Path(directory)
        command = [sys.executable, "-m", "sidecar", "--coordinator-url", url]
        if hosts is not None:
            (root / "hosts").write_text(hosts)
            command += ["--hosts", str(root / "hosts")]
        with open(root / "log", "wb") as log:
            process = subprocess.Popen(
                [*command, "--control-socket", str(root / "control.sock")],
                stderr=log,
                env={**os.environ, **(environment or {})},
            )
        made = Sidecar(root, coordinator, process)
        try:
            eventually(made.control.answers, "the sidecar to answer", 30)
            yield made
        finally:
            made.control.close()
            process.terminate()
            process.wait()
