"""What an idle warm container of a trivial project takes."""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path
from typing import Any

import docker

from bench.bed import Bed
from bench.figures import Outcome, Series, Target
from bench.project import Project
from tests.stack import resident
from tests.waiting import eventually

MIB = 1024**2
LIMIT_MIB, FIFTY_MIB = 14.0, 700.0
#: Process 1 and the zygote.
_AT_REST = 2
#: Containers, and seconds for all of them to have begun.
_FIFTY, _TOGETHER = 50, 45.0
_KIND = """
@task(id="kind-{number}", memory="{memory}m", timeout="5m")
def kind_{number}(until: float) -> None:
    time.sleep(max(0.0, until - time.time()))
"""


def fifty(bed: Bed, count: int) -> Outcome:
    """`count` containers that stand ready at once, of as many tasks that differ in their memory: a second run of
    one may wait for its first instead of having a container of its own.
    """
    tasks = "".join(_KIND.format(number=number, memory=64 + number) for number in range(count))
    with tempfile.TemporaryDirectory(prefix="samovar-bench-") as directory:
        project = Project(Path(directory))
        (project.path / "tasks.py").write_text(f"import time\nfrom samovar import task\n{tasks}")
        bed.samovar.deploy_path(project.path)
        with bed.samovar.client() as client:
            until = time.time() + _TOGETHER
            runs = [client.trigger(f"kind-{n}", {"until": until}) for n in range(count)]
            for run in runs:
                if run.wait(4 * _TOGETHER).status != "completed":
                    raise RuntimeError(f"the run {run.id} ended as {run.status}: {run.data.get('error')}")

    def held() -> float | None:
        with _if_there():
            names = _idle(bed, count)
            if all(len(_processes(bed, name)) == _AT_REST for name in names):
                return sum(container_memory(bed, name)[0] for name in names)
        return None

    total = eventually(held, f"{count} warm containers") or 0.0
    return Outcome(
        "idle: many",
        f"memory of {count} warm containers of a project without dependencies",
        [Series("docker stats, summed", "MiB", [total])],
        [],
        [Target("docker stats, summed", total, FIFTY_MIB * count / _FIFTY, "MiB")],
    )


def _if_there() -> contextlib.suppress:
    """The list is as old as the runner's last heartbeat: one of it may have left meanwhile."""
    return contextlib.suppress(docker.errors.NotFound)


def _idle(bed: Bed, count: int) -> list[str]:
    """So many of those that stand ready, of whatever project: a pool keeps 50. Empty where there are fewer."""
    found = [str(entry["container"]) for entry in bed.samovar.pool() if entry["state"] == "idle"]
    return found[:count] if len(found) >= count else []


def idle(bed: Bed, count: int) -> Outcome:
    """Of the cgroup and of its processes, against an idle Python in a plain container of the same image."""
    names = ("docker stats", "cgroup usage", "RSS, summed")
    mine = [Series(f"samovar: {name}", "MiB") for name in names]
    plain = [Series(f"idle python: {name}", "MiB", against=index) for index, name in enumerate(names)]
    for number in range(count):
        run = bed.client.trigger("trivial", {"number": number}).wait(60)
        if run.status != "completed":
            raise RuntimeError(f"the run {run.id} ended as {run.status}")
        with bed.docker.idle(bed.image) as other:
            eventually(lambda name=other: _processes(bed, name), "the plain container's process")  # type: ignore[misc]
            for series, taken in ((mine, idle_memory(bed)), (plain, container_memory(bed, other))):
                for one, value in zip(series, taken, strict=True):
                    one.add(value)
    return Outcome(
        "idle",
        "memory of an idle warm container of a trivial project",
        mine,
        plain,
        [Target("docker stats (usage without inactive file cache)", mine[0].median, LIMIT_MIB, "MiB")],
        notes=["RSS counts a page once for each process that has it; a zygote shares most of its pages"],
    )


def idle_memory(bed: Bed) -> tuple[float, ...]:
    """What a container that stands ready takes, once it has let go of the process for a next run."""

    def found() -> tuple[float, ...] | None:
        with _if_there():
            name = idle_container(bed)
            return container_memory(bed, name) if len(_processes(bed, name)) == _AT_REST else None
        return None

    return eventually(found, "an idle warm container") or ()


def idle_container(bed: Bed) -> str:
    """The name of a container that stands ready, as the pool was said last to be."""

    def found() -> str | None:
        entries = bed.samovar.pool()
        return next((str(entry["container"]) for entry in entries if entry["state"] == "idle"), None)

    return eventually(found, "an idle warm container") or ""


def _processes(bed: Bed, container: str) -> list[int]:
    return [int(row[0]) for row in bed.docker.engine.top(container, "-eo pid")["Processes"] or []]


def container_memory(bed: Bed, container: str) -> tuple[float, ...]:
    """MiB as `docker stats` counts, of the cgroup, and of its processes."""
    stats: dict[str, Any] = bed.docker.engine.stats(container, stream=False, one_shot=True)["memory_stats"]
    detail = stats.get("stats", {})
    # cgroup v1 says total_inactive_file, v2 inactive_file
    cache = detail.get("total_inactive_file", detail.get("inactive_file", 0))
    held = sum(resident(pid) / MIB for pid in _processes(bed, container))
    return (stats["usage"] - cache) / MIB, stats["usage"] / MIB, held
