"""A gigabyte into a run and out of it again: how fast, and what it takes of any process's memory."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import docker

from bench.bed import Bed
from bench.figures import Outcome, Series, Target

#: What a file may take of the memory of any process of Samovar, in MiB.
MOST = 32.0
SIZE = 1024**3
_STEP = 1 << 20
_EVERY = 0.02


def files(bed: Bed, count: int) -> list[Outcome]:
    """By how much each process's memory grows at most; and the seconds, beside a copy with a digest."""
    parts = [*bed.samovar.pids(), "sidecar's egress", "process 1", "its children"]
    grown = [Series(part, "MiB") for part in parts]
    taken = [Series("in", "s"), Series("out", "s"), Series("saved", "s")]
    copied = Series("a copy on the same disk, synced, and its SHA-256", "s")
    with tempfile.TemporaryDirectory(prefix="smv-bench-") as folder:
        given = Path(folder) / "given.bin"
        block = os.urandom(_STEP)
        with given.open("wb") as file:
            for _ in range(SIZE // _STEP):
                file.write(block)
        # a first run, so that the container is there and everybody has what they keep
        bed.client.trigger("carry", {"data": bed.client.upload(__file__)}).result(60)
        for _ in range(count):
            copied.add(_copy(given, Path(folder) / "copy.bin"))
            with _watching(bed) as highest:
                began = time.perf_counter()
                reference = bed.client.upload(given)
                taken[0].add(time.perf_counter() - began)
                run = bed.client.trigger("carry", {"data": reference})
                seconds = run.result(600)
                taken[1].add(float(seconds))
                began = time.perf_counter()
                run.artifact("copy.bin").save(Path(folder) / "saved.bin")
                taken[2].add(time.perf_counter() - began)
            for series in grown:
                series.add(highest.get(series.name, 0.0))
    return [
        Outcome(
            "files",
            "1 GiB uploaded; fetched by a run and kept by it; saved by a client",
            taken,
            [Series(copied.name, "s", copied.samples, at) for at in range(len(taken))],
        ),
        Outcome(
            "files-memory",
            "what 1 GiB in and out adds to a process at its highest (anonymous memory)",
            grown,
            [],
            [Target(f"{series.name} at most", max(series.samples), MOST, "MiB") for series in grown],
        ),
    ]


def _copy(source: Path, target: Path) -> float:
    import hashlib

    began = time.perf_counter()
    digest = hashlib.sha256()
    with source.open("rb") as given, target.open("wb") as file:
        while data := given.read(_STEP):
            digest.update(data)
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - began


@contextlib.contextmanager
def _watching(bed: Bed) -> Iterator[dict[str, float]]:
    """By name, by how many MiB the memory of each process has grown at most; filled in at the end."""
    before = {name: _anonymous(pid) for name, pid in _processes(bed)}
    highest = dict(before)
    over = threading.Event()

    def look() -> None:
        while not over.wait(_EVERY):
            for name, pid in _processes(bed):
                highest[name] = max(highest.get(name, 0.0), _anonymous(pid))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    grown: dict[str, float] = {}
    try:
        yield grown
    finally:
        over.set()
        watcher.join()
        grown.update({name: value - before.get(name, 0.0) for name, value in highest.items()})


def _processes(bed: Bed) -> list[tuple[str, int]]:
    found = list(bed.samovar.pids().items())
    found += [("sidecar's egress", pid) for pid in _children(bed.samovar.pids().get("sidecar", 0))]
    with (
        contextlib.closing(docker.APIClient(version="auto")) as engine,
        contextlib.suppress(docker.errors.APIError),
    ):
        for container in bed.samovar.containers():
            try:
                first = int(engine.inspect_container(container["Id"])["State"]["Pid"])
            except docker.errors.NotFound:
                continue
            # the run's own process is the task's: it digests what it is given
            found += [("process 1", first), *(("its children", pid) for pid in _children(first)[:1])]
    return [(name, pid) for name, pid in found if pid]


def _children(pid: int) -> list[int]:
    try:
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (OSError, ValueError):
        return []


def _anonymous(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0
