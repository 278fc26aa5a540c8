"""How much work one run is for the processes of its container: counted, not timed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from samovar import wire

from tests.unit.harness.docked import Docked, folders
from tests.waiting import eventually

pytestmark = pytest.mark.docker

#: Process 1 with a hook that notes what it, the zygote and runs open, list, import, start and signal.
COUNTING = """
import os, sys
sys.path.insert(0, {sdk!r})
NOTES = 900
reopening = False
def note(event, arguments):
    global reopening
    if reopening:
        return
    if event in ("open", "import", "os.fork", "os.posix_spawn", "os.kill", "os.killpg") or event.startswith(
        ("os.list", "os.scandir", "os.walk", "os.remove", "os.utime", "os.chmod", "subprocess")
    ):
        line = f"{{os.getpid()}} {{event}} {{arguments}}\\n".encode()
        try:
            os.write(NOTES, line)
        except OSError:  # the zygote closes what it is not given
            reopening = True
            made = os.open("/notes", os.O_WRONLY | os.O_APPEND)
            os.dup2(made, NOTES, inheritable=False)
            os.close(made)
            reopening = False
            os.write(NOTES, line)
sys.addaudithook(note)
from samovar.harness.supervisor import main
os._exit(main())
"""

TASKS = """
import os, subprocess
from samovar import task

@task
def nothing(): pass

@task
def given(number: int, name: str = "x"): return {"number": number, "name": name}

@task
def leaves(): open("/tmp/left", "w").close()

@task
def starts(): subprocess.Popen(["sleep", "60"])
"""


class Counted(Docked):
    command = ("python3", "-I", "-S", "/counting.py")

    def __init__(self, folder: Path, image: str) -> None:
        (folder / "counting.py").write_text(COUNTING.format(sdk=wire.IMAGE_SDK))
        self.notes = folder / "notes"
        self.notes.write_text("")
        self.notes.chmod(0o666)
        (folder / "counting.py").chmod(0o755)
        super().__init__(folder, image, TASKS, f"{folder / 'counting.py'}:/counting.py:ro", f"{self.notes}:/notes")

    def stands_ready(self) -> None:
        """Waits until there is a process for the next run beside process 1 and the zygote."""
        eventually(lambda: self.processes() == 3, "a process to stand ready")

    def noted(self, task: str, attempt: str, **fields: Any) -> list[str]:
        """What a run has made the processes of its container do."""
        before = len(self.notes.read_text())
        self.run(task, attempt, **fields)
        return self.notes.read_text()[before:].splitlines()


@pytest.fixture
def counted(base_image: str) -> Iterator[Counted]:
    with folders() as folder:
        one = Counted(folder(), base_image)
        yield one
        one.close()


def test_a_run_that_leaves_nothing_makes_nobody_look_for_it(counted: Counted) -> None:
    for number in range(3):  # the first ones touch what is settled later
        counted.run("nothing", f"warm{number}")
    counted.stands_ready()
    for task, payload in (("nothing", {}), ("given", {"number": 1})):
        before = len(counted.notes.read_text())
        counted.run(task, task, payload=payload)
        counted.stands_ready()
        noted = counted.notes.read_text()[before:].splitlines()
        # a fork, a SIGCONT to the zygote, which a run may have stopped: no file, no list, no import, in any process
        kinds = sorted(line.split(None, 2)[1] for line in noted)
        assert kinds == ["os.fork", "os.kill"], noted


def test_what_is_left_is_looked_for(counted: Counted) -> None:
    counted.run("nothing", "a1")
    left = counted.noted("leaves", "a2")
    assert any(line.startswith("1 os.listdir") for line in left)
    assert not any("/proc" in line for line in left if line.startswith("1 "))
    started = counted.noted("starts", "a3")
    assert any(line.startswith("1 os.listdir ('/proc',)") for line in started)
