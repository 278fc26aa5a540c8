"""`make soak`: for half an hour runs of all kinds, at half of what the machine takes, while containers are killed.

The exit code is 1 where a run came to another end than its kind does, a container killed from outside cost more
than one retried attempt, or anything has grown: containers, processes, descriptors or memory of the runner, the
sidecar and the coordinator. `SAMOVAR_SOAK_SECONDS` and `SAMOVAR_SOAK_RATE` (runs a second) change how much.
"""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import docker
import docker.errors
from samovar import Client, RunHandle

from tests.stack import PARTS, Stack, deployed_projects, remove_traces, resident, stack, written
from tests.waiting import eventually

SECONDS = float(os.environ.get("SAMOVAR_SOAK_SECONDS", "1800"))
#: Runs for the first measure of what the machine takes.
_FLOOD = 300
#: Of a hundred runs; the others are fast.
KINDS = {"slow": 3, "failing": 4, "greedy": 1, "endless": 2, "waiting": 5}
ENDS = {"fast": "completed", "slow": "completed", "waiting": "completed", "endless": "canceled"}
_SAMPLE = 10.0
_KILL = 15.0
#: More runs than so many that have not ended, and nothing is triggered until some have.
_BACKLOG = 400
#: Memory may differ by so much between the second quarter and the last.
_GROWTH = 1.10
_DESCRIPTORS = 10

TASKS = """\
import time
from samovar import task, wait


@task(id="fast")
def fast(number: int) -> int:
    print("run", number)
    return number + 1


@task(id="slow")
def slow() -> str:
    time.sleep(2)
    return "done"


@task(id="failing")
def failing() -> None:
    raise ValueError("as it should")


@task(id="greedy", memory="64m")
def greedy() -> int:
    held = [bytearray(8 * 2**20) for _ in range(64)]
    for piece in held:
        piece[::4096] = b"x" * len(piece[::4096])
    return len(held)


@task(id="endless")
def endless() -> None:
    while True:
        time.sleep(1)


@task(id="waiting")
def waiting() -> str:
    wait.sleep("3s")
    return "woken"
"""


@dataclass
class Sample:
    at: float
    containers: int
    processes: int
    memory: dict[str, int]
    descriptors: dict[str, int]
    threads: dict[str, int]


@dataclass
class Soak:
    stack: Stack
    client: Client
    rate: float
    triggered: dict[str, str] = field(default_factory=dict)
    ended: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    #: Attempts beyond the one that these take: fast, slow and failing runs.
    retried: int = 0
    kills: int = 0
    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    # ------------------------------------------------------------ what goes on meanwhile

    def trigger(self, until: float, rng: random.Random) -> None:
        """Runs of all kinds at an even rate; those that would not end are canceled."""
        names, weights = ["fast", *KINDS], [100 - sum(KINDS.values()), *KINDS.values()]
        due, number = time.monotonic(), 0
        while (now := time.monotonic()) < until:
            if now < due:
                time.sleep(due - now)
                continue
            due = max(due + 1 / self.rate, now - 1)
            if number % 50 == 0 and self._unfinished() > _BACKLOG:
                eventually(lambda: self._unfinished() <= _BACKLOG, "runs to end", 600)
                due = time.monotonic()
            kind = rng.choices(names, weights)[0]
            run = self.client.trigger(kind, {"number": number} if kind == "fast" else {})
            self.triggered[run.id] = kind
            if kind == "endless":
                self.client.run(run.id).cancel() if rng.random() < 0.3 else self._cancel_later(run.id)
            number += 1

    def _cancel_later(self, run: str) -> None:
        """When it runs."""

        def running() -> bool:
            return self.client.run(run).status == "running"

        def cancel() -> None:
            with contextlib.suppress(AssertionError):
                eventually(running, f"{run} to run", 300)
            self.client.run(run).cancel()

        self._others.submit(cancel)

    def __post_init__(self) -> None:
        self._others = ThreadPoolExecutor(8)

    def _unfinished(self) -> int:
        return sum(1 for _ in self.client.runs(status=["queued", "delayed", "running", "waiting"], limit=500))

    def kill(self, until: float, rng: random.Random) -> None:
        """Kills one of the containers now and then, whatever it does."""
        with contextlib.closing(docker.APIClient(version="auto")) as engine:
            while (left := until - time.monotonic()) > 0:
                time.sleep(min(left, _KILL))
                if found := [c for c in self.stack.containers() if c["State"] == "running"]:
                    with contextlib.suppress(docker.errors.APIError):  # it has left meanwhile
                        engine.kill(rng.choice(found)["Id"])
                        self.kills += 1

    def watch(self, until: float) -> None:
        began = time.monotonic()
        while time.monotonic() < until:
            time.sleep(_SAMPLE)
            self.samples.append(self._sample(time.monotonic() - began))
            last = self.samples[-1]
            memory = ", ".join(f"{part} {last.memory[part] / 2**20:.0f} MiB" for part in PARTS)
            print(
                f"{last.at:6.0f} s  {len(self.triggered)} runs  {last.containers} containers  {memory}", flush=True
            )

    def _sample(self, at: float) -> Sample:
        pids = self.stack.pids()
        return Sample(
            at,
            len(self.stack.containers()),
            len(pids),
            {part: resident(pid) for part, pid in pids.items()},
            {part: len(os.listdir(f"/proc/{pid}/fd")) for part, pid in pids.items()},
            {part: len(os.listdir(f"/proc/{pid}/task")) for part, pid in pids.items()},
        )

    # ------------------------------------------------------------ what came of it

    def settle(self) -> None:
        """Waits for all that was triggered, and looks at how it ended."""
        self._others.shutdown()
        eventually(lambda: self._unfinished() == 0, "all runs to end", 900)
        for handle in self.client.runs():
            run = handle.data
            kind = self.triggered.pop(run["id"], None)
            if kind is None:
                continue
            reason = (run["error"] or {}).get("reason", "")
            self.ended[kind, run["status"], reason] += 1
            right = ENDS.get(kind, "failed") == run["status"]
            if kind == "greedy":
                right = right and reason == "out_of_memory"
            if not right:
                self.problems.append(f"{run['id']} ({kind}) ended as {run['status']}: {run['error']}")
            if kind in ("fast", "slow", "failing"):
                self.retried += run["attempts"] - 1
        for run, kind in self.triggered.items():
            self.problems.append(f"{run} ({kind}) was acknowledged and is not there")
        if self.retried > self.kills:
            self.problems.append(f"{self.kills} containers were killed, and {self.retried} attempts made again")

    def judge(self) -> None:
        """Compares the last quarter with the second: in the first one everything is still being filled."""
        quarter = len(self.samples) // 4
        early, late = self.samples[quarter : 2 * quarter], self.samples[-quarter:]
        if not early or not late:
            self.problems.append("too short to say anything of growth")
            return

        for part in PARTS:
            before, after = _medians(part, "memory", early, late)
            print(f"{part}: {before / 2**20:.1f} → {after / 2**20:.1f} MiB")
            if after > before * _GROWTH:
                self.problems.append(f"the {part} grew from {before / 2**20:.1f} to {after / 2**20:.1f} MiB")
            for name in ("descriptors", "threads"):
                before, after = _medians(part, name, early, late)
                print(f"{part}: {before:.0f} → {after:.0f} {name}")
                if after > before + _DESCRIPTORS:
                    self.problems.append(f"the {part} has {after:.0f} {name}, and had {before:.0f}")
        before, after = (max(one.containers for one in some) for some in (early, late))
        print(f"containers, at the most: {before} → {after}")
        if after > before + 4:
            self.problems.append(f"there were up to {after} containers, and {before} before")


def _medians(part: str, name: str, *samples: list[Sample]) -> list[float]:
    return [statistics.median(getattr(one, name)[part] for one in some) for some in samples]


def sustained(client: Client) -> float:
    """Runs a second that the machine takes all at once, the containers being there already."""

    def flood() -> float:
        began = time.monotonic()
        with ThreadPoolExecutor(8) as threads:
            made: list[RunHandle] = list(
                threads.map(lambda n: client.trigger("fast", {"number": n}), range(_FLOOD))
            )
        for run in made:
            run.wait(300)
        return _FLOOD / (time.monotonic() - began)

    flood()
    return flood()


def main() -> int:
    directory = Path(tempfile.mkdtemp(prefix="smv-soak-"))
    rng = random.Random(11)
    with stack() as up, up.client() as client:
        up.deploy_path(written(directory, "soak", TASKS))
        rate = float(os.environ.get("SAMOVAR_SOAK_RATE") or sustained(client) / 2)
        print(f"{rate:.1f} runs a second for {SECONDS:.0f} s", flush=True)
        soak = Soak(up, client, rate)
        until = time.monotonic() + SECONDS
        with ThreadPoolExecutor(3) as threads:
            parts = [
                threads.submit(soak.trigger, until, rng),
                threads.submit(soak.kill, until, random.Random(12)),
                threads.submit(soak.watch, until),
            ]
            for part in parts:
                part.result()
        soak.settle()
        soak.judge()
        up.stop()
        if left := up.containers():
            soak.problems.append(f"{len(left)} containers are left")
    deployed_projects.add("soak")
    remove_traces()
    for (kind, status, reason), count in sorted(soak.ended.items()):
        print(f"{count:7} {kind}: {status} {reason}")
    print(f"{soak.kills} containers were killed from outside, {soak.retried} attempts made again for it")
    for problem in soak.problems[:50]:
        print(f"PROBLEM: {problem}")
    return 1 if soak.problems else 0


if __name__ == "__main__":
    sys.exit(main())
