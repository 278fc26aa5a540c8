"""A sidecar's side of the container protocol, and a harness on this host to speak it with.

Honest as far as it goes: it keeps checkpoints as the coordinator does (the first value of a key holds), so a
request that comes twice after a reconnect does no harm.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import samovar
from samovar import wire
from samovar.wire import Message

from tests.waiting import eventually

#: What the first hello is answered with.
TICKET = "5e1fd3a0" * 4
BOOT = Path(samovar.__file__).parent / "harness" / "boot.py"


class Listener:
    """Accepts one connection at a time and answers every request, unless its type is in `silent`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[Message] = []
        self.checkpoints: dict[str, Any] = {}
        #: Types of requests that are taken in and not answered.
        self.silent: set[str] = set()
        #: Called for every request; an answer other than None is sent instead of the usual.
        self.answer: Callable[[Message], Message | None] = lambda request: None
        self.connections = 0
        self._lock = threading.Lock()
        self._server: socket.socket | None = None
        self._peer: socket.socket | None = None
        self.start()

    def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(self.path))
        self._server.listen(1)
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def stop(self) -> None:
        """Be gone, as a killed sidecar is."""
        server, self._server = self._server, None
        peer, self._peer = self._peer, None
        for one in (server, peer):
            if one is not None:
                # a close alone would leave the descriptor open for as long as a thread is blocked on it
                close(one)
        self.path.unlink(missing_ok=True)

    def send(self, message: Message) -> None:
        peer = eventually(lambda: self._peer, "a connection")
        with self._lock:
            peer.sendall(wire.encode(message))

    def of(self, kind: str) -> list[Message]:
        return [request for request in list(self.requests) if request.get("type") == kind]

    def lines(self, attempt: str = "a1") -> list[Message]:
        """All log lines of an attempt, each once, by number; what a line was before it ended is gone."""
        found = {}
        for request in list(self.requests):
            if request.get("attempt") == attempt and request.get("type") in (wire.LOG, wire.FINISH):
                for line in request["lines"]:
                    found[line["seq"]] = line
        for line in list(found.values()):
            found.pop(line.get("replaces"), None)
        return [found[seq] for seq in sorted(found)]

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            self.connections += 1
            self._peer = peer
            self._serve(peer)

    def _serve(self, peer: socket.socket) -> None:
        lines = wire.LineBuffer()
        while True:
            try:
                data = peer.recv(1 << 20)
            except OSError:
                return
            if not data:
                return
            for request in lines.feed(data):
                self.requests.append(request)
                reply = self._reply(request)
                if reply is not None:
                    try:
                        with self._lock:
                            peer.sendall(wire.encode(reply))
                    except OSError:
                        return

    def _reply(self, request: Message) -> Message | None:
        if request["type"] in self.silent:
            return None
        given = self.answer(request)
        if given is not None:
            return given
        key = request.get("key")
        if request["type"] == wire.HELLO:
            return wire.reply(request, ticket=TICKET)
        if request["type"] == wire.CHECKPOINT_GET:
            return wire.reply(request, found=key in self.checkpoints, value=self.checkpoints.get(key))
        if request["type"] == wire.CHECKPOINT_PUT:
            stored = key not in self.checkpoints
            return wire.reply(request, stored=stored, value=self.checkpoints.setdefault(key, request["value"]))
        return wire.reply(request)


def close(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


class Container:
    """A harness as process tree on this host, with a project of its own."""

    def __init__(
        self,
        folder: Path,
        code: str,
        python: str = sys.executable,
        *,
        silent: bool = False,
        defaults: dict[str, Any] | None = None,
        **environment: str,
    ) -> None:
        """`silent`: its hello is not answered; `defaults`: those of samovar.toml."""
        self.folder = folder
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        (folder / "code").mkdir()
        (folder / "code" / "job.py").write_text(textwrap.dedent(code))
        manifest = folder / "manifest.json"
        manifest.write_text(json.dumps({"project": "p", "modules": ["job"], "defaults": defaults or {}}))
        # a socket's path is at most 107 bytes, and pytest's folders are long
        self._short = Path(f"/tmp/samovar-test-{os.getpid()}-{id(self):x}")
        self._short.mkdir()
        self.sidecar = Listener(self._short / "s")
        self.sidecar.silent = {wire.HELLO} if silent else set()
        self.process = subprocess.Popen(
            [python, "-I", "-S", str(BOOT)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.scratch),
                "SAMOVAR_SOCKET": str(self.sidecar.path),
                "SAMOVAR_CODE": str(folder / "code"),
                "SAMOVAR_MANIFEST": str(manifest),
                "SAMOVAR_SCRATCH": str(self.scratch),
                **environment,
            },
        )

    def close(self) -> None:
        # the zygote and a run die with their parents
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()
        self.sidecar.stop()
        shutil.rmtree(self._short, ignore_errors=True)

    def assign(self, task: str, attempt: str = "a1", number: int = 1, **fields: Any) -> None:
        payload = fields.pop("payload", {})
        self.sidecar.send(
            {
                "type": wire.ASSIGN,
                "attempt": attempt,
                "run": {
                    "id": "r1",
                    "attempt": number,
                    "task": task,
                    "project": "p",
                    "version": "20250101.1",
                    "tags": ["t"],
                    "trace_id": "0" * 32,
                },
                "payload": payload,
                "checkpoints": fields.pop("checkpoints", []),
                "checkpoints_complete": fields.pop("checkpoints_complete", True),
                **fields,
            }
        )

    def finish(self, attempt: str = "a1") -> Message:
        """The attempt's `finish`, with the `container` of the `released` that may come after it."""
        finish = self._said(wire.FINISH, attempt)
        if finish["container"] is not None:
            return finish
        return {**finish, "container": self._said(wire.RELEASED, attempt)["container"]}

    def _said(self, kind: str, attempt: str) -> Message:
        return eventually(
            lambda: next((m for m in self.sidecar.of(kind) if m["attempt"] == attempt), None),
            f"the {kind} of {attempt}",
        )

    def run(self, task: str, attempt: str = "a1", **fields: Any) -> Message:
        """Assign and wait for the finish."""
        self.assign(task, attempt, **fields)
        return self.finish(attempt)

    def cancel(self, attempt: str = "a1", reason: str = "canceled", grace: float = 5.0) -> None:
        self.sidecar.send({"type": wire.CANCEL, "attempt": attempt, "reason": reason, "grace": grace})

    def messages(self, attempt: str = "a1", stream: str | None = None) -> list[str]:
        return [
            line["message"] for line in self.sidecar.lines(attempt) if stream is None or line["stream"] == stream
        ]

    def children(self) -> list[int]:
        """Pids below process 1."""
        found, waiting = [], [self.process.pid]
        while waiting:
            try:
                text = Path(f"/proc/{waiting[0]}/task/{waiting[0]}/children").read_text()
            except OSError:
                text = ""
            waiting = waiting[1:] + [int(pid) for pid in text.split()]
            found += [int(pid) for pid in text.split()]
        return found

    def stands_ready(self) -> int:
        """The pid of the process that waits for the next run, as soon as there is one."""

        def found() -> int | None:
            for zygote in self.children()[:1]:
                below = Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()
                return int(below[0]) if len(below) == 1 else None
            return None

        pid = eventually(found, "a process that stands ready")
        assert pid is not None
        return pid

    def others(self) -> list[int]:
        """Pids below process 1, but for the zygote and what stands ready for the next run."""
        zygote, *rest = self.children()
        ready = Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()
        return [pid for pid in rest if str(pid) not in ready[:1]]

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        assert pid in self.children()
        os.kill(pid, number)
