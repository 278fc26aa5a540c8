"""A real coordinator for commands to talk to, and a hand that plays the runner over the fleet's own API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import commands
from tests.enrolled import Runners
from tests.plain import PLAIN
from tests.ports import free_port
from tests.waiting import eventually

ADMIN = "sk_admin_of_the_tests_of_the_cli"

TASKS = [
    {
        "id": "greet",
        "module": "tasks",
        "name": "greet",
        "doc": "",
        "schema": {
            "type": "object",
            "properties": {"name": {"type": "string"}},
            "required": ["name"],
            "additionalProperties": False,
        },
        "options": {
            "retry": {
                "max_attempts": 1,
                "factor": 2.0,
                "min_delay": 1.0,
                "max_delay": 60.0,
                "jitter": True,
                "oom_memory": None,
            },
            "memory": 256 * 1024**2,
            "cpu": 1.0,
            "timeout": 600.0,
            "ttl": None,
            "priority": 0,
            "warm": True,
            "network": "none",
            "secrets": [],
            "trust": "project",
            "mounts": {},
        },
    }
]


@dataclass
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@dataclass
class Install:
    """A coordinator, and a data directory that says where it is."""

    data: Path
    url: str
    environment: dict[str, str] = field(default_factory=dict)

    def samovar(self, *arguments: str, stdin: str | None = None, code: int | None = 0) -> Result:
        """Run the command as a user does; `code` is the exit code that is expected (None: any)."""
        done = commands.samovar(
            arguments,
            environment={**os.environ, **self.environment, "SAMOVAR_DATA": str(self.data), "TERM": "dumb"},
            cwd=self.data,
            stdin=stdin,
        )
        assert code is None or done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return Result(done.returncode, done.stdout, done.stderr)

    def json(self, *arguments: str, stdin: str | None = None, code: int = 0) -> Any:
        return self.samovar(*arguments, "--json", stdin=stdin, code=code).document


class Hand:
    """A runner without containers: it answers claims as it is told to."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=f"{url}/internal/v1", auth=Runners(ADMIN), timeout=30, **PLAIN)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.fail_build: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None
        self.tasks: list[dict[str, Any]] = TASKS
        self.sources: list[bytes] = []
        #: What the task writes and returns; the defaults where they are None.
        self.messages: list[str] | None = None
        self.result: Any = None
        #: Lines that are sent while the run is under way; before each, and before the end, it waits for `go`.
        self.steps: list[dict[str, Any]] = []
        #: What the task reaches.
        self.egress: list[dict[str, Any]] = []
        self.go = threading.Semaphore(0)
        beat = {"memory": 4 * 1024**3, "slots": 4, "task_memory": 4 * 1024**3}
        # until its first heartbeat a runner is not known to be alive
        self._post("/runners/hand/heartbeat", beat)
        self._thread.start()

    def close(self) -> None:
        self._ending.set()
        self._thread.join(10)
        self._http.close()

    def _serve(self) -> None:
        while not self._ending.is_set():
            body = {"memory": 4 * 1024**3, "slots": 4, "builds": 1, "most": 4, "timeout": 0.2}
            claimed = self._http.post("/runners/hand/claim", json=body).raise_for_status().json()
            for build in claimed["builds"]:
                self._build(build)
            for assignment in claimed["assignments"]:
                self._run(assignment)

    def _build(self, build: dict[str, Any]) -> None:
        path, token = f"/builds/{build['deployment']}", {"token": build["token"]}
        self.sources.append(self._http.get(f"{path}/source").raise_for_status().content)
        self._post(f"{path}/log", {**token, "lines": ["step one [bold]", "step two"]})
        if self.fail_build is not None:
            self._post(f"{path}/failed", {**token, "error": self.fail_build})
        else:
            index = {"sdk": "0.1.0", "python": "3.11.2", "tasks": self.tasks}
            self._post(f"{path}/done", {**token, "image": "samovar/demo:deployment-0", "index": index})

    def _run(self, assignment: dict[str, Any]) -> None:
        path, token = f"/attempts/{assignment['attempt']}", {"token": assignment["token"]}
        key = {"authorization": f"Bearer {assignment['secret']}"}
        self._post(f"{path}/start", {**token, "start": "cold"}, key)
        name = assignment["payload"].get("name", "")
        self._post(f"{path}/checkpoint", {**token, "key": "greeting", "value": f"Hello, {name}!"}, key)
        for step in self.steps:
            self.go.acquire(timeout=30)
            whole = {"at": 1.0, "level": "info", "stream": "stdout", "logger": None, **step}
            self._post(f"{path}/logs", {**token, "lines": [whole]}, key)
        if self.steps:
            self.go.acquire(timeout=30)
        messages = ["from the task"] if self.messages is None else self.messages
        lines = [
            {"seq": seq, "at": 1.0, "level": "info", "stream": "stdout", "logger": None, "message": message}
            for seq, message in enumerate(messages, 1)
        ]
        result = {"greeting": f"Hello, {name}!"} if self.result is None else self.result
        if self.egress:
            self._post(f"{path}/egress", {**token, "hosts": self.egress}, key)
        end: dict[str, Any] = {"outcome": "completed", "result": result}
        if self.error is not None:
            end = {"outcome": "failed", "error": self.error}
        self._post(f"{path}/finish", {**token, **end, "lines": lines, "peak_memory_bytes": 1024**2}, key)

    def _post(self, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self._http.post(path, json=body, headers=headers).raise_for_status()


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Install]:
    """A coordinator of its own process, as `samovar up` starts it."""
    data = tmp_path_factory.mktemp("install")
    port = free_port()
    made = Install(data, f"http://127.0.0.1:{port}")
    (data / "credentials.json").write_text(json.dumps({"url": made.url, "api_key": ADMIN}))
    environment = {
        "SAMOVAR_COORDINATOR_PORT": str(port),
        "SAMOVAR_COORDINATOR_DATA": str(data),
        "SAMOVAR_COORDINATOR_ADMIN_KEY": ADMIN,
    }
    with (data / "coordinator.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "coordinator"], env={**os.environ, **environment}, stdout=log, stderr=log
        )
        try:

            def answers() -> bool:
                assert process.poll() is None, (data / "coordinator.log").read_text()
                try:
                    return httpx.get(f"{made.url}/healthz", **PLAIN).status_code == 200
                except httpx.TransportError:
                    return False

            eventually(answers, "the coordinator to answer")
            yield made
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def hand(install: Install) -> Iterator[Hand]:
    made = Hand(install.url)
    yield made
    made.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "demo"
    root.mkdir()
    (root / "samovar.toml").write_text('[project]\nname = "demo"\ntasks = ["tasks"]\n')
    (root / "tasks.py").write_text("")
    return root
