"""What one run that does nothing costs inside its container, beside bare forks in the same one.

Runs and forks come at the rate of the bench of warm runs: at once after another, each would pay for what the one
before left to do.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from bench.bed import Bed
from bench.defaults import Harness, container, speaker
from bench.figures import Outcome, Series, Target, rounds
from bench.pace import RATE
from tests.waiting import eventually

CPU, FIRST = 3.0, 2.0
_SECONDS = 60.0
_RUNS, _FORKS, _TRACED = 20, 20, 20
_PAUSE = 1 / RATE


def inside(bed: Bed, count: int) -> Outcome:
    """In each round some runs and then some bare forks, so that both find the machine alike."""
    cpu, first = Series("a run: processor time", "ms"), Series("a run: first line", "ms")
    inline_cpu, inline_first = Series("inline: processor time", "ms"), Series("inline: first line", "ms")
    bare_cpu = Series("a bare fork: processor time", "ms")
    bare_first = Series("a bare fork: first byte", "ms", against=1)
    with (
        speaker() as harness, container(bed, harness) as name,
        speaker() as other, container(bed, other) as other_name,
    ):  # fmt: skip
        harness.connected()
        other.connected()
        group, other_group = group_of(bed, name), group_of(bed, other_name)
        for number in rounds(count + 1, _SECONDS):
            used = group.cpu()
            starts = [_start(harness) for _ in range(_RUNS)]
            used = group.cpu() - used
            bare = harness.run("bare", {"count": _FORKS, "pause": _PAUSE})
            inline_used = other_group.cpu()
            inline_starts = [_start(other, "inline") for _ in range(_RUNS)]
            inline_used = other_group.cpu() - inline_used
            if number == 0:
                continue  # touches pages that the others find
            cpu.add(1000 * used / _RUNS)
            bare_cpu.add(1000 * bare["cpu"])
            bare_first.add(1000 * bare["first"])
            first.samples.extend(starts)
            inline_cpu.add(1000 * inline_used / _RUNS)
            inline_first.samples.extend(inline_starts)
        calls = _calls(harness, group)
    return Outcome(
        "inside",
        "one run that does nothing, inside a warm container, from its assignment until the next one may come",
        [cpu, first, inline_cpu, inline_first],
        [bare_cpu, bare_first],
        [
            Target("processor time over that of a bare fork", cpu.median / bare_cpu.median, CPU, "x"),
            Target("first line over the first byte of a bare fork", first.median / bare_first.median, FIRST, "x"),
        ],
        notes=[calls],
    )


def _start(harness: Harness, isolation: str = "process") -> float:
    time.sleep(_PAUSE)
    return harness.start(isolation)


class Group:
    """The control group of a container, by its id: version 1 or 2."""

    def __init__(self, id: str) -> None:
        places = (
            (f"/sys/fs/cgroup/cpuacct/docker/{id}", "cpuacct.usage"),
            (f"/sys/fs/cgroup/system.slice/docker-{id}.scope", "cpu.stat"),
            (f"/sys/fs/cgroup/docker/{id}", "cpu.stat"),
        )
        found = [(Path(place), name) for place, name in places if Path(place, name).exists()]
        if not found:
            raise RuntimeError("the control group of the container is not to be found on this machine")
        self._place, self._name = found[0]

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        text = (self._place / self._name).read_text()
        return int(text.split()[1]) / 1e6 if self._name == "cpu.stat" else int(text) / 1e9

    def processes(self) -> list[int]:
        return sorted(int(pid) for pid in (self._place / "cgroup.procs").read_text().split())


def group_of(bed: Bed, name: str) -> Group:
    """Of the container of this name."""
    return Group(str(bed.docker.engine.inspect_container(name)["Id"]))


def _calls(harness: Harness, group: Group) -> str:
    """The system calls of a run, where strace is there to count them."""
    if shutil.which("strace") is None:
        return "system calls were not counted: there is no strace"
    pids = group.processes()
    command = ["strace", "-c", "-f", "-q", *(word for pid in pids for word in ("-p", str(pid)))]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        eventually(lambda: _traced(pids) == len(pids), "strace to be attached")
        for _ in range(_TRACED):
            harness.start()
    finally:
        tracer.terminate()
        summary = tracer.communicate()[1]
    total = next((line.split() for line in summary.splitlines() if line.endswith(" total")), [])
    # seconds and per cent come first; errors stand between the count and the name where there are any
    return f"{int(total[3]) / _TRACED:.0f} system calls a run, of all processes" if len(total) > 3 else summary


def _traced(pids: list[int]) -> int:
    return sum("TracerPid:\t0" not in Path(f"/proc/{pid}/status").read_text() for pid in pids)
