"""`samovar dev` as it is lived with: saves, broken saves, logs in the terminal, and Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import stack as stacks
from tests.stack import SAMOVAR, Stack, stack, written
from tests.waiting import eventually


def code(greeting: str) -> str:
    return f'''
from samovar import task


@task(memory="128m", network="none")
def greet(name: str) -> str:
    print("{greeting},", name)
    return "{greeting} " + name
'''


@dataclass
class Dev:
    """`samovar dev --json` on a project, and what it has told."""

    stack: Stack
    project: Path
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        stacks.deployed_projects.add(self.project.name)
        self.out, self.err = self.stack.directory / "dev.out", self.stack.directory / "dev.err"
        command = [SAMOVAR, "--data", str(self.stack.data), "dev", str(self.project), *self.options]
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(command, stdout=out, stderr=err)

    def events(self, event: str) -> list[dict[str, Any]]:
        # a line that is being written is not read yet
        lines = self.out.read_text().splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [document for document in found if document["event"] == event]

    def awaits(self, event: str, count: int = 1) -> dict[str, Any]:
        """The `count`-th event of this kind."""

        def there() -> list[dict[str, Any]]:
            assert self.process.poll() is None, self.err.read_text()
            return self.events(event)[count - 1 :]

        return eventually(there, f"{count} x {event} of dev: {self.err.read_text()}", 120)[0]

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(100)


def descendants(pid: int) -> list[int]:
    """The processes below `pid`."""
    children = [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [below for child in children for below in descendants(child)]


def gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.fixture
def empty() -> Iterator[Stack]:
    """A place for an install that nothing has started."""
    directory = Path(tempfile.mkdtemp(prefix="smv-"))
    made = Stack(directory, directory / "ledger", directory / "policy.toml")
    made.data.mkdir(mode=0o700)
    stacks.informed(made.data / "runner")
    yield made
    made.remove_containers()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def name() -> str:
    return f"dev-{uuid.uuid4().hex[:6]}"


def test_saves_are_deployed_broken_ones_survived_and_ctrl_c_leaves_nothing(empty: Stack, name: str) -> None:
    project = written(empty.directory, name, code("Hello"))
    tasks, toml = project / "tasks.py", project / "samovar.toml"
    good_toml = toml.read_text()
    dev = Dev(empty, project, ("--port", "0", "--json"))
    try:
        deployed = dev.awaits("deployed")
        assert (deployed["project"], deployed["tasks"]) == (name, ["greet"])
        processes = descendants(dev.process.pid)
        # up and its three parts
        assert len(processes) >= 4
        trigger = ("trigger", "greet", "--payload", '{"name": "Ada"}', "--wait")
        run = empty.cli(*trigger)
        assert run["result"] == "Hello Ada"
        said = dev.awaits("log")
        assert (said["run"], said["task"], said["message"]) == (run["id"], "greet", "Hello, Ada")
        assert empty.containers()

        tasks.write_text(code("Bonjour"))
        second = dev.awaits("deployed", 2)
        assert second["version"] != deployed["version"]
        assert dev.awaits("changed")["files"] == ["tasks.py"]
        assert empty.cli(*trigger)["result"] == "Bonjour Ada"

        # written again as it was: nothing is built
        tasks.write_text(code("Bonjour"))
        dev.awaits("unchanged")
        assert len(dev.events("deploying")) == 2

        # each kind of broken save is told, and the version before it stays
        tasks.write_text("def greet(:\n")
        assert "SyntaxError" in dev.awaits("refused", 1)["error"]["message"]
        tasks.write_text("import no_such_module_anywhere\n")
        assert "no_such_module_anywhere" in dev.awaits("refused", 2)["error"]["message"]
        toml.write_text("[project\n")
        assert "not valid TOML" in dev.awaits("refused", 3)["error"]["message"]
        assert empty.cli(*trigger)["result"] == "Bonjour Ada"
        toml.write_text(good_toml)
        dev.awaits("refused", 4)
        tasks.write_text(code("Hola"))
        dev.awaits("deployed", 3)
        assert empty.cli(*trigger)["result"] == "Hola Ada"

        # while one is built the next is saved: both are deployed, the later one last
        tasks.write_text(code("First"))
        dev.awaits("deploying", 7)
        tasks.write_text(code("Second"))
        dev.awaits("deployed", 5)
        assert empty.cli(*trigger)["result"] == "Second Ada"

        assert dev.interrupt() == 0, dev.err.read_text()
        assert dev.events("stopped")
        assert gone(processes)
        assert empty.containers() == []
        assert "Traceback" not in dev.err.read_text()
    finally:
        if dev.process.poll() is None:
            dev.interrupt()


def test_a_running_samovar_is_used_and_left_as_it_is(name: str) -> None:
    with stack() as made:
        project = written(made.directory, name, code("Hello [bold] :id:"))
        dev = Dev(made, project)
        eventually(lambda: "is current after" in dev.err.read_text(), "the first deploy to be told", 120)
        run = made.cli("trigger", "greet", "--payload", '{"name": "Ada"}', "--wait")
        assert run["result"] == "Hello [bold] :id: Ada"
        # for people: the task and the run before each line, and the line as other commands print it
        eventually(lambda: f"greet {run['id']} | " in dev.out.read_text(), "the line in the terminal")
        shown = [line for line in dev.out.read_text().splitlines() if line.startswith(f"greet {run['id']} | ")]
        command = [SAMOVAR, "--data", str(made.data), "runs", "logs", run["id"]]
        logged = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        assert shown == [f"greet {run['id']} | {line}" for line in logged.splitlines()]
        eventually(lambda: f"greet {run['id']} completed" in dev.err.read_text(), "its end in the terminal")

        # a coordinator that comes back is gone on with
        made.kill_part("coordinator")
        (project / "tasks.py").write_text(code("Ciao"))
        eventually(lambda: dev.err.read_text().count("is current after") == 2, "the second deploy to be told", 120)
        again = made.finished("greet", name="Ada")
        assert again["result"] == "Ciao Ada"
        eventually(lambda: f"greet {again['id']} | Ciao, Ada" in dev.out.read_text(), "its line in the terminal")

        assert dev.interrupt() == 0
        assert made.healthy()
        assert set(made.pids()) == {"coordinator", "sidecar", "runner"}
        assert made.finished("greet", name="Eve")["result"] == "Ciao Eve"


def test_a_killed_dev_takes_along_what_it_started(empty: Stack, name: str) -> None:
    dev = Dev(empty, written(empty.directory, name, code("Hello")), ("--port", "0", "--json"))
    try:
        dev.awaits("deployed")
        assert empty.cli("trigger", "greet", "--payload", '{"name": "Ada"}', "--wait")["result"] == "Hello Ada"
        processes = descendants(dev.process.pid)
        os.kill(dev.process.pid, signal.SIGKILL)
        dev.process.wait(30)
        eventually(lambda: gone(processes), "what it started to be gone", 100)
        assert empty.containers() == []
    finally:
        if dev.process.poll() is None:
            dev.interrupt()
