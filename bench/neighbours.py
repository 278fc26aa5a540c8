"""What one project costs another: its warm starts, checkpoints and triggers alone, and beside a hostile one."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from samovar import Client

from bench.bed import Bed
from bench.figures import Outcome, Series, Target, rounds
from bench.project import Project

FACTOR = 2.0
_SECONDS = 45.0
_STEPS = 20
TASKS = '''\
"""Each task takes as much as it gets."""

import time

from samovar import checkpoint, task


@task(id="hog-checkpoints", cpu=0.5)
def checkpoints(seconds: float) -> None:
    value, until, number = "x" * 400_000, time.time() + seconds, 0
    while time.time() < until:
        try:
            checkpoint(f"step-{number}", value)
        except Exception:
            time.sleep(0.01)
        number += 1


@task(id="hog-logs", cpu=0.5)
def logs(seconds: float) -> None:
    until = time.time() + seconds
    while time.time() < until:
        print("x" * 8000)


@task(id="hog-runs", priority=1000)
def runs(padding: str) -> None:
    pass
'''


def neighbours(bed: Bed, count: int) -> list[Outcome]:
    """Three attacks; each figure is taken by turns alone and beside the attack."""
    with _hog(bed) as hog:
        return [_beside(bed, hog, name, count) for name in ("checkpoints", "logs", "runs")]


@contextlib.contextmanager
def _hog(bed: Bed) -> Iterator[Client]:
    """The second project, deployed beside the measured one."""
    with tempfile.TemporaryDirectory(prefix="samovar-bench-") as directory:
        project = Project(Path(directory))
        (project.path / "tasks.py").write_text(TASKS)
        bed.samovar.deploy_path(project.path)
        with bed.samovar.client() as client:
            yield client


def _beside(bed: Bed, hog: Client, attack: str, count: int) -> Outcome:
    names = ("warm start", "checkpoint", "trigger over HTTP")
    beside = [Series(f"{name} beside {attack}", "ms") for name in names]
    alone = [Series(f"{name} alone", "ms", against=number) for number, name in enumerate(names)]
    _victim(bed, alone, 2)
    for series in alone:
        series.samples.clear()
    part = max(1, count // 4)
    for _ in rounds(4, _SECONDS):
        _victim(bed, alone, part)
        with _attacked(hog, attack):
            _victim(bed, beside, part)
    targets = [
        Target(f"{name}: 99th percentile over that alone", b.percentile(99) / a.percentile(99), FACTOR, "x")
        for name, a, b in zip(names, alone, beside, strict=True)
    ]
    return Outcome(f"neighbour: {attack}", f"a project beside one that floods {attack}", beside, alone, targets)


def _victim(bed: Bed, series: list[Series], count: int) -> None:
    starts, steps, triggers = series
    for _ in range(count):
        began = time.time()
        run = bed.client.trigger("warm")
        triggers.add(1000 * (time.time() - began))
        found = run.wait(120)
        starts.add(1000 * (float(found.data["result"]) - began))
    for seconds in bed.client.trigger("steps", {"count": max(_STEPS, count)}).wait(120).data["result"]:
        steps.add(1000 * seconds)


@contextlib.contextmanager
def _attacked(hog: Client, attack: str) -> Iterator[None]:
    """For as long as the block runs, and not much longer."""
    ending = threading.Event()

    def flood() -> None:
        while not ending.is_set():
            with contextlib.suppress(Exception):
                hog.trigger("hog-runs", {"padding": "x" * 200_000}, concurrency_key=str(time.time_ns()))

    runs = [] if attack == "runs" else [hog.trigger(f"hog-{attack}", {"seconds": 60}) for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        if attack == "runs":
            for _ in range(4):
                pool.submit(flood)
        for run in runs:
            _started(hog, run.id)
        try:
            yield
        finally:
            ending.set()
            for run in runs:
                run.cancel()
            for run in runs:
                run.wait(60)


def _started(hog: Client, run: str) -> None:
    end = time.monotonic() + 60
    while hog.run(run).data["status"] == "queued":
        if time.monotonic() > end:
            raise RuntimeError(f"the run {run} of the other project does not start")
        time.sleep(0.05)
