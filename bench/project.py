"""The project that is measured: trivial tasks, so that what is measured is Samovar."""

from __future__ import annotations

import uuid
from pathlib import Path

TASKS = '''\
"""Each task does next to nothing."""

import time

from samovar import checkpoint, task, wait

REVISION = {revision}


@task(id="cold", warm=False)
def cold() -> float:
    return time.time()


@task(id="warm")
def warm() -> float:
    return time.time()


@task(id="trivial")
def trivial(number: int) -> int:
    return number + 1


@task(id="waits")
def waits() -> object:
    return wait.token().result()


@task(id="steps")
def steps(count: int) -> list:
    took = []
    for number in range(count):
        began = time.perf_counter()
        checkpoint(f"step-{{number}}", number)
        took.append(time.perf_counter() - began)
    return took
'''


class Project:
    """A project directory of its own name, which can be given other code."""

    def __init__(self, directory: Path) -> None:
        self.name = f"bench-{uuid.uuid4().hex[:8]}"
        self.path = directory / self.name
        self.path.mkdir()
        (self.path / "samovar.toml").write_text(
            f'[project]\nname = "{self.name}"\ntasks = ["tasks"]\n\n[defaults]\nmemory = "64m"\ntimeout = "1m"\n'
        )
        self._revision = 0
        self.change()

    def change(self) -> None:
        """Other code, same dependencies."""
        self._revision += 1
        (self.path / "tasks.py").write_text(TASKS.format(revision=self._revision))
