"""What an idle warm container of a trivial project takes."""

from __future__ import annotations

from typing import Any

import docker

from bench.bed import Bed
from bench.figures import Outcome, Series, Target
from tests.stack import resident
from tests.waiting import eventually

MIB = 1024**2
LIMIT_MIB = 25.0


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
    """What a container that stands ready takes."""

    def found() -> tuple[float, ...] | None:
        try:
            return container_memory(bed, idle_container(bed))
        except docker.errors.NotFound:
            # the list is as old as the runner's last heartbeat: it has left meanwhile
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
