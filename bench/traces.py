"""What was called when: made up from a seed, or read from the traces that Azure Functions has published.

AzureFunctionsDataset2019 (https://github.com/Azure/AzurePublicDataset): one folder with files
`invocations_per_function_md.anon.d01.csv`, `function_durations_percentiles.anon.d01.csv` and
`app_memory_percentiles.anon.d01.csv` of one day. AzureFunctionsInvocationTrace2021: one file with a row for each
call (`app,func,end_timestamp,duration`).
"""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Iterator
from pathlib import Path

from coordinator.keeping.replay import Call, Task

MIB = 1024**2
_DAY = 86400.0


def made_up(seed: int = 1, tasks: int = 80, seconds: float = _DAY) -> list[Call]:
    """A day of a company's tasks, with the proportions that "Serverless in the Wild" (ATC 2020) gives for Azure.

    Of the tasks 45 % are called at most once an hour, 36 % at most once a minute, the others up to once a second
    and with nearly all calls; some by the clock, some by chance, with quiet nights, two in five in bursts. What is
    called often is short. Imports take 0.05 to 6 s on top of what the engine takes, and memory grows with them.
    """
    rng = random.Random(seed)
    calls: list[Call] = []
    for number in range(tasks):
        imports = min(6.0, max(0.05, rng.lognormvariate(-0.7, 1.2)))
        memory = int(64 * MIB * 2 ** min(4, max(0, round(rng.gauss(0.8 + imports / 2, 0.8)))))
        task = Task(f"task-{number}", memory, 0.35 + imports)
        place = (number + 0.5) / tasks
        low, high = (_DAY, 3600.0) if place < 0.45 else (3600.0, 60.0) if place < 0.81 else (60.0, 1.0)
        every = low * (high / low) ** rng.random()
        mean = min(300.0, rng.lognormvariate(-0.4, 1.2) * min(4.0, (every / 60) ** 0.3))
        kind = rng.choice(("clock", "chance", "chance", "bursts", "bursts"))
        calls += [
            Call(at, task, mean * rng.lognormvariate(-0.125, 0.5)) for at in _times(rng, kind, every, seconds)
        ]
    calls.sort(key=lambda call: call.at)
    return calls


def _times(rng: random.Random, kind: str, every: float, seconds: float) -> Iterator[float]:
    """Times of calls that come `every` so many seconds on average."""
    at = rng.uniform(0, every)
    while at < seconds:
        if kind == "clock":
            yield at
            at += every
        elif kind == "chance":
            yield at
            at += rng.expovariate(1.0) * every / _daylight(at)
        else:
            size = 1 + round(rng.expovariate(1 / 7))
            for _ in range(size):
                yield at
                at += rng.expovariate(1.0) * min(1.0, every / 4)
            at += rng.expovariate(1.0) * size * every / _daylight(at)


def _daylight(at: float) -> float:
    return 1.0 + 0.8 * math.sin(2 * math.pi * (at / _DAY - 0.25))


def azure_2019(folder: Path, day: int = 1, seed: int = 1) -> list[Call]:
    """A day of the trace of 2019: calls are spread evenly over their minute, with the average duration of each.

    What it doesn't say is made up by `seed`: a cold start of 0.35 s and what goes with the memory of the app.
    """
    rng = random.Random(seed)
    durations = {
        (row["HashOwner"], row["HashApp"], row["HashFunction"]): float(row["Average"]) / 1000
        for row in _rows(folder / f"function_durations_percentiles.anon.d{day:02}.csv")
    }
    memory = {
        (row["HashOwner"], row["HashApp"]): float(row["AverageAllocatedMb"])
        for row in _rows(folder / f"app_memory_percentiles.anon.d{day:02}.csv")
    }
    calls: list[Call] = []
    for row in _rows(folder / f"invocations_per_function_md.anon.d{day:02}.csv"):
        owner, app, function = row["HashOwner"], row["HashApp"], row["HashFunction"]
        seconds = durations.get((owner, app, function))
        if seconds is None:
            continue  # no call of it ended that day
        task = _task(rng, function, memory.get((owner, app), 128.0))
        for minute in range(1, 1441):
            count = int(row.get(str(minute)) or 0)
            calls += [Call(60.0 * (minute - 1 + (n + 0.5) / count), task, seconds) for n in range(count)]
    calls.sort(key=lambda call: call.at)
    return calls


def azure_2021(file: Path, seed: int = 1) -> list[Call]:
    """The trace of 2021, which says when each call ended and how long it took; memory is made up by `seed`."""
    rng = random.Random(seed)
    tasks: dict[str, Task] = {}
    calls: list[Call] = []
    for row in _rows(file):
        name, seconds = row["func"], float(row["duration"])
        if name not in tasks:
            tasks[name] = _task(rng, name, 2.0 ** rng.uniform(6, 9))
        calls.append(Call(max(0.0, float(row["end_timestamp"]) - seconds), tasks[name], seconds))
    calls.sort(key=lambda call: call.at)
    return calls


def _task(rng: random.Random, name: str, mebibytes: float) -> Task:
    memory = max(64, 2 ** math.ceil(math.log2(max(1.0, mebibytes)))) * MIB
    return Task(name, int(memory), 0.35 + min(6.0, mebibytes / 128 * rng.lognormvariate(-0.7, 0.8)))


def _rows(file: Path) -> Iterator[dict[str, str]]:
    with file.open(newline="") as opened:
        yield from csv.DictReader(opened)
