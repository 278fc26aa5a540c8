"""The supervisor with real processes: what dies is started again, and nothing outlives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from samovar.cli.supervisor import BoundedLog, Part, Supervisor, noteworthy

from tests.waiting import eventually

WORKER = """
import json, os, signal, sys, time
def end(*_):
    open("ended", "a").write(__file__.rpartition("/")[2] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
open(f"started-{os.environ['NAME']}", "a").write(f"{os.getpid()}\\n")
open("environment", "w").write(json.dumps(dict(os.environ)))
print(json.dumps({"level": "warning", "event": "a warning"}), flush=True)
print(json.dumps({"level": "warning", "event": "a warning", "again": 1}), flush=True)
print(json.dumps({"level": "info", "event": "not shown"}), flush=True)
while True:
    time.sleep(60)
"""
STUBBORN = WORKER.replace("signal.signal(signal.SIGTERM, end)", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")


class Scene:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.said: list[str] = []
        for name, text in {"worker_one": WORKER, "worker_two": WORKER, "stubborn": STUBBORN}.items():
            (directory / f"{name}.py").write_text(text)
        self.supervisor = Supervisor(logs=directory / "logs", directory=directory, say=self.said.append)

    def part(self, name: str, patience: float = 20.0) -> Part:
        return Part(name, {"NAME": name, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(self.directory)}, patience)

    def pids(self, name: str) -> list[int]:
        path = self.directory / f"started-{name}"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def restarted(self, name: str, times: int) -> bool:
        self.supervisor.tick()
        return len(self.pids(name)) >= times


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.supervisor.kill()


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_part_that_dies_is_started_again_and_it_is_said(scene: Scene) -> None:
    scene.supervisor.start(scene.part("worker_one"))
    eventually(lambda: scene.restarted("worker_one", 1), "the first start")
    os.kill(scene.pids("worker_one")[0], signal.SIGKILL)
    eventually(lambda: scene.restarted("worker_one", 2), "the second start")
    assert scene.supervisor.deaths("worker_one") == 1
    assert any("worker_one was ended by signal SIGKILL" in line for line in scene.said)


def test_a_part_gets_its_own_environment_and_nothing_else(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///secret")
    scene.supervisor.start(scene.part("worker_one"))
    eventually((scene.directory / "environment").exists, "the start")
    eventually(lambda: (scene.directory / "environment").read_text().endswith("}"), "the environment")
    found = set(json.loads((scene.directory / "environment").read_text()))
    assert found - {"LC_CTYPE"} == {"NAME", "PATH", "PYTHONPATH"}


def test_stopping_goes_in_order_and_what_does_not_stop_is_killed(scene: Scene) -> None:
    for name in ("worker_one", "worker_two", "stubborn"):
        scene.supervisor.start(scene.part(name, 0.2 if name == "stubborn" else 20.0))
        eventually(lambda name=name: scene.restarted(name, 1), f"{name} to start")
    scene.supervisor.stop(["worker_two", "stubborn", "worker_one"])
    assert (scene.directory / "ended").read_text().split() == ["worker_two.py", "worker_one.py"]
    assert any("stubborn did not stop within 0.2 s" in line for line in scene.said)
    assert all(gone(scene.pids(name)[0]) for name in ("worker_one", "worker_two", "stubborn"))


def test_warnings_are_shown_once_and_everything_is_in_the_log(scene: Scene) -> None:
    scene.supervisor.start(scene.part("worker_one"))
    log = scene.directory / "logs/worker_one.log"
    eventually(lambda: log.exists() and log.read_text().count("\n") == 3, "three log lines")
    eventually(lambda: len(scene.supervisor.tail("worker_one")) == 3, "the tail")
    assert [line for line in scene.said if "warning" in line] == ["worker_one: a warning"]
    assert log.stat().st_mode & 0o777 == 0o600


def test_children_die_with_a_supervisor_that_is_killed(scene: Scene) -> None:
    program = (
        "import sys; from pathlib import Path; from samovar.cli.supervisor import *\n"
        f"here = Path({str(scene.directory)!r})\n"
        "s = Supervisor(logs=here / 'l2', directory=here, say=print)\n"
        "s.start(Part('worker_one', {'NAME': 'worker_one', 'PYTHONPATH': str(here)}, 1))\n"
        "import signal; signal.pause()\n"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", program])
    eventually(lambda: scene.pids("worker_one"), "the child")
    supervisor.kill()
    supervisor.wait()
    eventually(lambda: gone(scene.pids("worker_one")[0]), "the child's end")


def test_a_log_is_bounded(tmp_path: Path) -> None:
    with BoundedLog(tmp_path / "x.log", most=1000, files=3) as log:
        for number in range(200):
            log.write(b"%050d\n" % number)
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == ["x.log", "x.log.1", "x.log.2"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3000
    assert (tmp_path / "x.log").read_text().endswith("199\n")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('{"level": "error", "event": "it broke", "run": "r1", "exception": "Traceback"}', "it broke (run=r1)"),
        ('{"level": "info", "event": "fine"}', None),
        ("plain text with error in it", None),
        ("[1, 2]", None),
    ],
)
def test_what_of_a_log_is_shown(line: str, shown: str | None) -> None:
    assert noteworthy(line) == shown
