"""Two coordinators on one PostgreSQL, with a runner and a sidecar that know both: processes that tests kill."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import httpx
import psycopg
from samovar import Client

from tests import commands, stack
from tests.conformance.databases import Server, server
from tests.plain import PLAIN
from tests.ports import free_port
from tests.waiting import eventually

ADMIN = "admin-key-for-tests-0123"


@dataclass
class Replicas:
    directory: Path
    postgres: Server
    ports: list[int]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    @property
    def ledger(self) -> Path:
        return self.directory / "ledger"

    # ------------------------------------------------------------ life

    def start(self, part: str, *arguments: str) -> None:
        log = (self.directory / f"{part}.log").open("ab")
        command = [sys.executable, "-m", part.rstrip("0123456789"), *arguments]
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SAMOVAR_")}
        keys = {
            "SAMOVAR_COORDINATOR_ADMIN_KEY": ADMIN,
            "SAMOVAR_COORDINATOR_HOST_TOKEN_FILE": str(self.directory / "host-token"),
            "SAMOVAR_RUNNER_TOKEN_FILE": str(self.directory / "host-token"),
        }
        self.processes[part] = subprocess.Popen(command, stdout=log, stderr=log, env={**clean, **keys})

    def start_coordinator(self, number: int) -> None:
        self.start(
            f"coordinator{number}", "--data", str(self.directory / "data"),
            "--database-url", self.postgres.url, "--port", str(self.ports[number]),
        )  # fmt: skip
        eventually(lambda: self.ready(number), f"coordinator {number} to be ready")

    def start_fleet(self) -> None:
        control = self.directory / "s" / "control.sock"
        both = ",".join(self.urls)
        self.start("sidecar", "--coordinator-url", both, "--control-socket", str(control))
        policy = self.directory / "policy.toml"
        policy.write_text(f'[mounts.ledger]\npath = "{self.ledger}"\nmode = "rw"\n')
        self.start(
            "runner", "--coordinator-url", both, "--sidecar-socket", str(control),
            "--state", str(self.directory / "runner"), "--policy", str(policy),
        )  # fmt: skip

    def kill(self, number: int) -> None:
        """kill -9 of a coordinator."""
        process = self.processes[f"coordinator{number}"]
        process.send_signal(signal.SIGKILL)
        process.wait(30)

    def ready(self, number: int) -> bool:
        return self.duties(number) is not None

    def duties(self, number: int) -> list[str] | None:
        """What a coordinator carries out; None while it is not ready."""
        process = self.processes[f"coordinator{number}"]
        assert process.poll() is None, (self.directory / f"coordinator{number}.log").read_text()[-4000:]
        try:
            answer = httpx.get(f"{self.urls[number]}/readyz", timeout=5, **PLAIN)
        except httpx.TransportError:
            return None
        return list(answer.json()["duties"]) if answer.is_success else None

    # ------------------------------------------------------------ use

    def deploy(self, path: Path) -> None:
        environment = {**os.environ, "SAMOVAR_URL": self.urls[0], "SAMOVAR_API_KEY": ADMIN}
        done = commands.samovar(["deploy", str(path)], environment=environment, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        stack.deployed_projects.add(path.name)

    def api(self, number: int) -> httpx.Client:
        headers = {"Authorization": f"Bearer {ADMIN}"}
        return httpx.Client(base_url=self.urls[number], headers=headers, timeout=60, **PLAIN)

    def client(self, number: int) -> Client:
        return Client(self.urls[number], ADMIN)

    def query(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        """What the database says, whichever coordinators live."""
        with psycopg.connect(self.postgres.url, autocommit=True) as conn:
            return conn.execute(text, values).fetchall()  # type: ignore[arg-type]

    def noted(self, book: str) -> Counter[str]:
        """How often each thing was done, counted outside of the runs."""
        path = self.ledger / book
        return Counter(path.read_text().split()) if path.exists() else Counter()

    def all_ended(self, where: str, *values: Any) -> bool:
        open_ones = "status NOT IN ('completed', 'failed', 'canceled', 'timed_out', 'expired')"
        return not self.query(f"SELECT 1 FROM runs WHERE {open_ones} AND {where} LIMIT 1", *values)


@contextlib.contextmanager
def replicas(binaries: Path) -> Iterator[Replicas]:
    """Both coordinators, the sidecar and the runner, up; all gone at the end."""
    directory = Path(tempfile.mkdtemp(prefix="smv-"))
    with server(binaries) as postgres:
        made = Replicas(directory, postgres, [free_port(), free_port()])
        made.ledger.mkdir()
        made.ledger.chmod(0o777)
        stack.informed(directory / "runner")
        try:
            for number in (0, 1):
                made.start_coordinator(number)
            made.start_fleet()
            yield made
        finally:
            for part in ("runner", "sidecar", "coordinator0", "coordinator1"):
                if (process := made.processes.get(part)) is not None:
                    process.terminate()
                    try:
                        process.wait(40)
                    except subprocess.TimeoutExpired:
                        process.kill()
            _remove_containers(directory)
            shutil.rmtree(directory, ignore_errors=True)


def _remove_containers(directory: Path) -> None:
    path = directory / "runner" / "runner-id"
    if not path.exists():
        return
    with contextlib.closing(docker.APIClient(version="auto")) as engine:
        label = f"samovar.runner={path.read_text().strip()}"
        for container in engine.containers(all=True, filters={"label": [label]}):
            engine.remove_container(container["Id"], force=True, v=True)
