"""A whole Samovar for a test: `samovar up` as its own processes, on the shipped defaults."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import docker
import docker.errors
import httpx
from samovar import Client

from tests import commands
from tests.plain import PLAIN
from tests.waiting import eventually

SAMOVAR = str(Path(sys.executable).parent / "samovar")
PROJECTS = Path(__file__).parent / "projects"
PARTS = ("coordinator", "sidecar", "runner")

#: Projects that tests have deployed in this session; their images go when it ends.
deployed_projects: set[str] = set()


@dataclass
class Stack:
    """An install in a directory of its own; `ledger` is the named mount `ledger`, writable by tasks."""

    directory: Path
    ledger: Path
    policy: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    url: str = ""

    @property
    def data(self) -> Path:
        return self.directory / "data"

    # ------------------------------------------------------------ life

    def up(self, *arguments: str) -> None:
        """Starts it and returns when it says that it is ready."""
        log = (self.directory / "up.log").open("ab")
        said = log.tell()
        command = [SAMOVAR, "--data", str(self.data), "up", "--port", self.port, "--policy", str(self.policy)]
        self.process = subprocess.Popen(
            [*command, *arguments], stdout=log, stderr=log, env={**os.environ, **self.environment}
        )

        def ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, (self.directory / "up.log").read_text()
            return b"is ready at" in (self.directory / "up.log").read_bytes()[said:]

        eventually(ready, "samovar up to be ready")
        self.url = json.loads((self.data / "credentials.json").read_text())["url"]

    @property
    def port(self) -> str:
        """The same port when it is started again, as users have it."""
        return self.url.rpartition(":")[2] or "0"

    def stop(self) -> int:
        """Ctrl-C; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(60)
        self.process = None
        return code

    def kill(self) -> None:
        """kill -9 of `samovar up` and of all three processes."""
        assert self.process is not None
        victims = [self.process.pid, *self.pids().values()]
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(30)
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in victims), "the processes to be gone")
        self.process = None

    def pids(self) -> dict[str, int]:
        """The process ids of the coordinator, the sidecar and the runner that are there now."""
        assert self.process is not None
        found: dict[str, int] = {}
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in children:
            with contextlib.suppress(OSError):
                arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                found |= {part: int(pid) for part in PARTS if part.encode() in arguments}
        return found

    def kill_part(self, part: str) -> None:
        """kill -9 of one process, and back when another one has taken its place."""
        before = eventually(lambda: self.pids().get(part, 0), f"the {part} to be there")
        os.kill(before, signal.SIGKILL)
        eventually(lambda: self.pids().get(part, before) != before, f"the {part} to be started again")
        if part == "coordinator":
            eventually(self.healthy, "the coordinator to answer")

    def healthy(self) -> bool:
        try:
            return httpx.get(self.url + "/healthz", timeout=2, **PLAIN).is_success
        except httpx.TransportError:
            return False

    # ------------------------------------------------------------ use

    def cli(self, *arguments: str, code: int | None = 0, stdin: str | None = None) -> Any:
        """`samovar --json …`: its document. Fails where the exit code is another than `code`."""
        result = self.run(*arguments, stdin=stdin)
        assert code is None or result.returncode == code, (result.returncode, result.stdout, result.stderr)
        return json.loads(result.stdout)

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        asked = ["--data", str(self.data), "--json", *arguments]
        return commands.samovar(asked, cwd=self.directory, stdin=stdin, timeout=300)

    def deploy(self, name: str) -> dict[str, Any]:
        """Deploys tests/projects/NAME (or examples/NAME)."""
        path = PROJECTS / name
        return self.deploy_path(path if path.is_dir() else PROJECTS.parents[1] / "examples" / name)

    def deploy_path(self, path: Path) -> dict[str, Any]:
        deployed: dict[str, Any] = self.cli("deploy", str(path))
        deployed_projects.add(str(deployed["project"]))
        return deployed

    def credentials(self) -> tuple[str, str]:
        """The address, and an administrator's key."""
        told = json.loads((self.data / "credentials.json").read_text())
        return str(told["url"]), str(told["api_key"])

    @contextlib.contextmanager
    def client(self) -> Iterator[Client]:
        with Client(*self.credentials()) as client:
            yield client

    def finished(self, task: str, timeout: float = 120, **payload: Any) -> dict[str, Any]:
        """Triggers `task` and gives its run, as over HTTP, when it is final."""
        with self.client() as client:
            return client.trigger(task, payload).wait(timeout).data

    # ------------------------------------------------------------ what is there

    def containers(self) -> list[dict[str, Any]]:
        """The containers of this install's runner, running or not."""
        path = self.data / "runner" / "runner-id"
        if not path.exists():
            return []
        with contextlib.closing(docker.APIClient(version="auto")) as engine:
            label = f"samovar.runner={path.read_text().strip()}"
            return list(engine.containers(all=True, filters={"label": [label]}))

    def pool(self) -> list[dict[str, Any]]:
        """The containers as the runner said last that they are."""
        return [entry for runner in self.cli("pool")["items"] for entry in runner["containers"]]

    def remove_containers(self) -> None:
        """Takes away what a test that failed has left."""
        for container in self.containers():
            with contextlib.closing(docker.APIClient(version="auto")) as engine:
                engine.remove_container(container["Id"], force=True, v=True)

    def container_of(self, run: str) -> str:
        """The name of the container that executes `run` now."""

        def found() -> str | None:
            attempts = {a["id"] for a in self.cli("runs", "attempts", run)["items"]}
            return next((entry["container"] for entry in self.pool() if entry["attempt"] in attempts), None)

        return eventually(found, f"a container of {run}") or ""


@cache
def _known() -> str:
    """A directory of this session, for what a runner has found out about images, which never change."""
    directory = tempfile.mkdtemp(prefix="smv-known-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def informed(state: Path) -> Path:
    """Makes `state`, of a runner that knows what others of this session have found out about images.

    Gives the directory in it where such things are kept.
    """
    state.mkdir(mode=0o700)
    shutil.copytree(_known(), state / "known")
    return state / "known"


@contextlib.contextmanager
def stack(network: str = "", **environment: str) -> Iterator[Stack]:
    """A running Samovar; stopped, and everything it made removed, at the end. `network`: more of that policy."""
    directory = Path(tempfile.mkdtemp(prefix="smv-"))
    ledger = directory / "ledger"
    ledger.mkdir()
    ledger.chmod(0o777)
    policy = directory / "policy.toml"
    policy.write_text(f'[mounts.ledger]\npath = "{ledger}"\nmode = "rw"\n[network]\nopen = true\n{network}\n')
    made = Stack(directory, ledger, policy, dict(environment))
    made.data.mkdir(mode=0o700)
    known = informed(made.data / "runner")
    try:
        made.up()
        yield made
    finally:
        if made.process is not None:
            made.process.terminate()
            try:
                made.process.wait(60)
            except subprocess.TimeoutExpired:
                made.process.kill()
        made.remove_containers()
        shutil.copytree(known, _known(), dirs_exist_ok=True)
        if not os.environ.get("SAMOVAR_TEST_KEEP"):
            shutil.rmtree(directory, ignore_errors=True)


def resident(pid: int) -> int:
    """Bytes of memory that a process has in it; 0 for one that has none, as the dead."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def written(directory: Path, name: str, code: str) -> Path:
    """A project in directory/name with `code` for its tasks."""
    project = directory / name
    project.mkdir()
    (project / "samovar.toml").write_text(f'[project]\nname = "{name}"\ntasks = ["tasks"]\n')
    (project / "tasks.py").write_text(code)
    return project


def copied(name: str, directory: Path) -> Path:
    """A copy of tests/projects/NAME under a project name of its own, for a test that changes it."""
    target = directory / f"{name}-{uuid.uuid4().hex[:6]}"
    shutil.copytree(PROJECTS / name, target)
    toml = target / "samovar.toml"
    toml.write_text(toml.read_text().replace(f'"{name}"', f'"{target.name}"', 1))
    return target


def remove_traces() -> None:
    """Removes the images of the projects that tests deployed, and the open network if nobody is on it."""
    with contextlib.closing(docker.APIClient(version="auto")) as engine:
        for project in deployed_projects:
            images = engine.images(filters={"label": [f"samovar.project={project}"]})
            # a deployment's image is built on its dependencies': children first
            for image in sorted(images, key=lambda i: i["Created"], reverse=True):
                for tag in image["RepoTags"] or []:
                    with contextlib.suppress(docker.errors.APIError):
                        engine.remove_image(tag)
        with contextlib.suppress(docker.errors.APIError):
            engine.remove_network("samovar-open")
