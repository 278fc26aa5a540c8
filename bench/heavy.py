"""A task whose project imports numpy: in a container that stands ready, that import is paid already."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from samovar import Client

from bench.bed import Bed
from bench.figures import Outcome, Series, Target, rounds
from bench.project import Project
from bench.starts import triggered

FACTOR = 2.0
_SECONDS = 60.0
TASKS = '''\
"""Uses what takes long to import."""

import time

import numpy
from samovar import task


@task(id="array", memory="256m")
def array(number: int) -> float:
    began = time.time()
    assert numpy.arange(number).sum() >= 0
    return began
'''


def heavy(bed: Bed, count: int) -> Outcome:
    """Second and later runs of a numpy task by turns with those of a task that imports nothing."""
    mine, plain = Series("numpy: first line", "ms"), Series("a task without imports: first line", "ms")
    with tempfile.TemporaryDirectory(prefix="samovar-bench-") as directory:
        project = Project(Path(directory))
        (project.path / "tasks.py").write_text(TASKS)
        (project.path / "requirements.txt").write_text("numpy\n")
        bed.samovar.deploy_path(project.path)
        with bed.samovar.client() as client:
            _array(client)
            for number in rounds(count + 1, _SECONDS):
                samples = _array(client), triggered(bed, "warm")[0]
                if number:
                    mine.add(samples[0])
                    plain.add(samples[1])
    return Outcome(
        "heavy",
        "trigger → first line in a warm container, of a project that imports numpy",
        [mine],
        [plain],
        [Target("over a task that imports nothing", mine.median / plain.median, FACTOR, "x")],
    )


def _array(client: Client) -> float:
    """Milliseconds."""
    began = time.time()
    run = client.trigger("array", {"number": 1000}).wait(120)
    if run.status != "completed":
        raise RuntimeError(f"the run {run.id} ended as {run.status}: {run.data.get('error')}")
    return 1000 * (float(run.data["result"]) - began)
