"""As many runs as the machine takes: how many a second, what of the processor each takes, and after a long time."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

from bench import rivals
from bench.bed import Bed, both
from bench.drive import drive
from bench.figures import Outcome, Series, Target
from bench.inside import Group
from bench.starts import triggered
from tests.stack import resident

#: Runs in the time of one `docker exec`: 150 and 120 a second where that takes 80 ms.
IN_ONE_EXEC = {"SQLite": 12.0, "PostgreSQL": 9.6}
PROCRASTINATE = 0.6
CPU_MS = 13.0
AGED = 1.10
#: Containers and imports are there, and every statement was seen.
_WARMING = 200
_FORKS, _EXECS = 200, 20
#: A fourth of them the peer takes one by one.
_JOBS = 400
_FIRST = 1000
_FORKING = """
import os, resource, sys
for _ in range(int(sys.argv[1])):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, b"x")
        os._exit(0)
    os.read(reading, 1)
    os.waitpid(pid, 0)
    os.close(reading)
    os.close(writing)
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(sum(one.ru_utime + one.ru_stime for one in used))
"""
_TICK = os.sysconf("SC_CLK_TCK")
_MIB = 2**20


def sustained(here: Bed, count: int) -> list[Outcome]:
    """`count` runs on each database, and of the processor's time what Samovar and the containers took of them."""
    jobs = rivals.jobs(min(count, _JOBS))
    found = []
    for name, bed in both(here):
        drive(bed, min(count, _WARMING))
        before = _processor(bed)
        began = drive(bed, count)
        shares = {part: 1000 * (now - before[part]) / count for part, now in _processor(bed).items()}
        rate = Series(f"{name}: runs", "/s", [count / began])
        with bed.docker.idle(bed.image) as container:
            seconds = Series("docker exec, one after another", "/s")
            for _ in range(min(_EXECS, count)):
                seconds.add(1 / bed.docker.execute(container))
        peers = [seconds]
        targets = [
            Target(
                f"of the {IN_ONE_EXEC[name]:g} runs wanted in the time of a docker exec, the time",
                IN_ONE_EXEC[name] * seconds.median / rate.median,
                1.0,
                "x",
            )
        ]
        if name == "PostgreSQL" and isinstance(jobs, float):
            peers.append(Series("procrastinate, 10 at once, not isolated", "/s", [jobs]))
            targets.append(Target("procrastinate over it", jobs / rate.median, 1 / PROCRASTINATE, "x"))
        notes = [] if isinstance(jobs, float) else [jobs]
        what = f"{count} durable runs that do nothing, a process each, some always in line, on {name}"
        found.append(Outcome(f"sustained: {name}", what, [rate], peers, targets, "higher", notes))
        cpu = Series(f"{name}: processor time of a run", "ms", [sum(shares.values())])
        bare = Series("a bare fork and pipe, on the host", "ms", [_forked()])
        what = "coordinator, sidecar, runner and containers at that rate; the engine's own is not counted"
        limits = [Target("processor time of a run", cpu.median, CPU_MS, "ms")]
        notes = [", ".join(f"{part} {spent:.1f} ms" for part, spent in shares.items())]
        found.append(Outcome(f"processor: {name}", what, [cpu], [bare], limits, notes=notes))
    return found


def age(bed: Bed, count: int) -> list[Outcome]:
    """The first thousand of `count` runs and the last: how many a second, how long one takes, and the memory."""
    part = min(_FIRST, max(1, count // 10))
    drive(bed, min(part, _WARMING))
    young = _Figures(bed, part)
    drive(bed, max(0, count - 2 * part))
    old = _Figures(bed, part)
    what = f"{count} runs without a restart: the last {part} beside the first {part}"
    return [
        Outcome(
            "age: rate", what, [old.rate], [young.rate],
            [Target("the first over the last", young.rate.median / old.rate.median, AGED, "x")], "higher",
        ),
        Outcome(
            "age: one run", "trigger → result, one by one", [old.whole], [young.whole],
            [Target("the last over the first, medians", old.whole.median / young.whole.median, AGED, "x")],
        ),
        Outcome(
            "age: memory", "resident memory", old.memory, young.memory,
            [
                Target(f"{now.name}, after over before", now.median / before.median, AGED, "x")
                for now, before in zip(old.memory, young.memory, strict=True)
            ],
        ),
    ]  # fmt: skip


class _Figures:
    """Of `part` runs, now."""

    def __init__(self, bed: Bed, part: int) -> None:
        self.rate = Series("runs", "/s", [part / drive(bed, part)])
        self.whole = Series("result", "ms", [triggered(bed, "warm")[1] for _ in range(min(200, part))])
        pids = sorted(bed.samovar.pids().items())
        self.memory = [
            Series(name, "MiB", [resident(pid) / _MIB], against=place) for place, (name, pid) in enumerate(pids)
        ]


def _processor(bed: Bed) -> dict[str, float]:
    """Seconds so far, of each of Samovar's processes with those that it has started, and of the containers."""
    spent = {name: with_children(pid) for name, pid in bed.samovar.pids().items()}
    spent["containers"] = 0.0
    for found in bed.samovar.containers():
        if found["State"] == "running":
            with contextlib.suppress(RuntimeError, FileNotFoundError):  # it has left meanwhile
                spent["containers"] += Group(found["Id"]).cpu()
    return spent


def with_children(pid: int) -> float:
    waiting, total = [pid], 0.0
    while waiting:
        pid = waiting.pop()
        try:
            with open(f"/proc/{pid}/stat") as file:
                words = file.read().rpartition(")")[2].split()
            with open(f"/proc/{pid}/task/{pid}/children") as file:
                waiting += [int(child) for child in file.read().split()]
        except FileNotFoundError:
            continue
        # user and system time of the process, and of children that it has collected
        total += sum(int(word) for word in words[11:15]) / _TICK
    return total


def _forked() -> float:
    """Milliseconds of processor time, in a Python that has imported nothing."""
    command = [sys.executable, "-I", "-c", _FORKING, str(_FORKS)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return 1000 * float(said) / _FORKS
