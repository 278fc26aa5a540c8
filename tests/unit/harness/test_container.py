"""The harness as process 1 of a hardened container: what a process tree on the host can't show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from samovar import wire

from coordinator import wire as coordinator_wire
from tests.unit.harness.docked import MEMORY, Docked, docker, folders
from tests.waiting import eventually

pytestmark = pytest.mark.docker

CODE = """
import ctypes, os, signal, socket, subprocess, sys, time
from samovar import task, checkpoint

@task
def ok(): return os.listdir("/tmp")

@task
def greedy():
    blocks = []
    while True: blocks.append(b"x" * 1024 * 1024)

@task
def greedy_child():
    code = "b = []\\nwhile True: b.append(b'x' * 1024 * 1024)"
    subprocess.run([sys.executable, "-c", code], check=True)

@task
def chain():
    "A process that is always another: it forks and leaves, faster than a list of processes is read."
    if os.fork() == 0:
        os.setsid()
        while True:
            try:
                if os.fork(): os._exit(0)
            except OSError: time.sleep(0.001)  # those before it are not reaped yet
    time.sleep(0.1)

@task
def bomb():
    while True:
        try: os.fork()
        except OSError: time.sleep(0.01)

@task
def attack():
    "What the run can do to process 1 and the zygote: what is refused is named."
    refused = []
    for pid in (1, os.getppid()):
        for file in ("mem", "environ", "fd", "maps"):
            try:
                path = f"/proc/{pid}/{file}"
                os.listdir(path) if file == "fd" else open(path, "rb").read(1)
            except PermissionError:
                refused.append(f"{file} of {'1' if pid == 1 else 'zygote'}")
    for number in range(1, 65):     # none of them reaches process 1
        if number != signal.SIGKILL:
            os.kill(1, number)
    os.kill(1, signal.SIGKILL)
    return refused

@task
def close_home(text: str):
    "Leave something where the cleaner can't look; what was there, where it could be read."
    home = os.environ["HOME"]
    found = []
    try:
        os.chmod(home, 0o700)
        found = os.listdir(home) + [n for n in os.listxattr(home) if n.startswith("user.")]
    except OSError as error:
        found = [str(error)]
    open(home + "/left", "w").write(text)
    try: os.setxattr(home, "user.left", text.encode())
    except OSError: pass      # before Linux 6.6
    os.chmod(home, 0)
    return found

@task
def tamper(what: str):
    import resource
    zygote = os.getppid()
    if what == "limit":
        refused = []
        for pid in (1, zygote):
            try: resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, 0))
            except PermissionError: refused.append(pid == 1)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))   # one's own may be lowered
        return refused
    os.setpriority(os.PRIO_PROCESS, zygote, 10)

@task
def hoard():
    "Dies of what it has written rather than of what its processes hold; slowly, so that it is seen."
    child = subprocess.Popen([sys.executable, "-c", "b = bytearray(40000000); import time; time.sleep(60)"])
    written = open("/tmp/kept", "wb").write(os.urandom(14 * 1024 * 1024))
    blocks = [os.urandom(1024 * 1024) for _ in range(165)]
    time.sleep(1.5)
    while True: blocks.append(b"x" * 1024 * 1024)

@task
def hold():
    "The most that the process has had, by the kernel."
    import resource, time
    held = bytearray(100 * 1000 * 1000)
    for at in range(0, len(held), 4096): held[at] = 1
    time.sleep(2)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

@task
def fill():
    try:
        with open("/tmp/big", "wb") as file:
            while True: file.write(b"x" * 65536)
    except OSError as error:
        return error.strerror
"""


@pytest.fixture
def docked(base_image: str) -> Iterator[Callable[[], Docked]]:
    made: list[Docked] = []

    with folders() as folder:

        def make() -> Docked:
            made.append(Docked(folder(), base_image, CODE))
            return made[-1]

        yield make
        for one in made:
            one.close()


def test_out_of_memory_is_told_with_its_evidence_and_advice(docked: Callable[[], Docked]) -> None:
    one = docked()
    finish = one.run("greedy")
    error = finish["error"]
    assert (finish["outcome"], error["type"], error["reason"]) == (wire.FAILED, "OutOfMemory", "out_of_memory")
    assert "the limit of 256 MiB" in error["message"]
    assert '@task(memory="512m")' in error["message"]
    assert finish["container"]["oom_kills"] == 1
    assert finish["container"]["clean"] is False
    assert finish["usage"]["exit_code"] == 137
    assert MEMORY * 0.9 < finish["usage"]["peak_memory_bytes"] <= MEMORY
    child = one.run("greedy-child", "a2")
    assert (child["error"]["type"], child["error"]["reason"]) == ("CalledProcessError", "out_of_memory")
    assert one.run("ok", "a3")["outcome"] == wire.COMPLETED, "process 1 outlives its runs' hunger"


def test_who_held_the_memory_is_told_of_one_that_ran_out(docked: Callable[[], Docked]) -> None:
    one = docked()
    curve = one.run("hoard")["usage"]["curve"]
    held = curve["near"]
    assert coordinator_wire.Curve.model_validate(curve).near is not None
    assert held["killed"] is True
    assert 14 * 1024**2 <= held["scratch"] < 15 * 1024**2, "what it wrote, and not the other file systems"
    named = {process["name"]: process["memory"] for process in held["processes"]}
    assert named["run"] > 165 * 1024**2, named
    assert named["python3"] > 40_000_000, named
    assert {"run", "python3", "zygote"} <= named.keys()
    assert len(named) <= 5
    assert list(named.values()) == sorted(named.values(), reverse=True)
    assert MEMORY * 0.8 <= held["memory"] <= MEMORY
    assert held["at_ms"] >= 250
    reported = [m for m in one.sidecar.of(wire.REPORT) if m["curve"]]
    assert reported, "before it died, for whom its end is lost"
    assert not reported[0]["curve"]["near"]["killed"]
    assert one.run("ok", "a2")["usage"].get("curve") is None
    # too fast to be looked at: what was written is seen after it as well, before it is wiped
    fast = one.run("greedy", "a3")["usage"]["curve"]
    assert (fast["near"]["killed"], len(fast["near"]["processes"]) >= 2) == (True, True)
    assert max(fast["points"]) * wire.CURVE_UNIT > MEMORY * 0.9


def test_the_curve_of_memory_is_as_high_as_the_kernels_peak(docked: Callable[[], Docked]) -> None:
    one = docked()
    assert "curve" not in one.run("ok", "a0")["usage"], "of a run that takes a moment nobody looks"
    finish = one.run("hold")
    peak, usage = finish["result"], finish["usage"]
    curve = usage["curve"]
    assert curve["interval_ms"] == 250
    assert 7 <= len(curve["points"]) <= 40
    highest = max(curve["points"]) * wire.CURVE_UNIT
    assert abs(highest - peak) < 0.05 * peak, (highest, finish)
    assert abs(highest - usage["peak_memory_bytes"]) <= wire.CURVE_UNIT, "a run has had what was seen of it"


def test_fork_chains_and_bombs_end_with_the_run(docked: Callable[[], Docked]) -> None:
    one = docked()
    finish = one.run("chain")
    assert finish["outcome"] == wire.COMPLETED
    assert finish["container"]["clean"] is False
    assert one.processes() == 2
    one.assign("bomb", "a2")
    eventually(lambda: one.processes() > 100, "the bomb at its limit")
    one.cancel("a2", grace=0.5)
    assert one.finish("a2")["outcome"] == wire.CANCELED
    assert one.processes() == 2
    assert one.run("ok", "a3")["result"] == []


def test_a_run_can_neither_read_nor_signal_process_1_and_the_zygote(docked: Callable[[], Docked]) -> None:
    one = docked()
    finish = one.run("attack")
    expected = {f"{file} of {whom}" for file in ("mem", "environ", "fd", "maps") for whom in ("1", "zygote")}
    assert set(finish["result"]) == expected
    assert one.run("ok", "a2")["result"] == []


def test_a_home_that_is_closed_is_wiped_all_the_same(docked: Callable[[], Docked]) -> None:
    one = docked()
    assert one.run("close-home", payload={"text": "of the first"})["result"] == []
    second = one.run("close-home", "a2", payload={"text": "of the second"})
    assert (second["result"], second["container"]["clean"]) == ([], True)


def test_a_run_can_not_set_limits_and_priorities_for_the_next(docked: Callable[[], Docked]) -> None:
    one = docked()
    limits = one.run("tamper", payload={"what": "limit"})
    assert (limits["result"], limits["container"]["clean"]) == ([True, False], True)
    priority = one.run("tamper", "a2", payload={"what": "priority"})
    assert (priority["outcome"], priority["container"]["clean"]) == (wire.COMPLETED, False)


def test_a_full_scratch_is_an_error_of_the_write_and_is_wiped(docked: Callable[[], Docked]) -> None:
    one = docked()
    assert one.run("fill")["result"] == "No space left on device"
    second = one.run("ok", "a2")
    assert (second["result"], second["container"]["clean"]) == ([], True)


def test_an_idle_container_is_small(docked: Callable[[], Docked]) -> None:
    one = docked()
    eventually(lambda: one.sidecar.of(wire.READY), "ready")
    identifier = docker("inspect", "-f", "{{.Id}}", one.name).strip()
    # what can't be reclaimed: file cache is counted to whichever container happened to read a file first
    kept = 0
    for path, names in (
        (f"/sys/fs/cgroup/memory/docker/{identifier}/memory.stat", ("rss", "shmem")),
        (f"/sys/fs/cgroup/system.slice/docker-{identifier}.scope/memory.stat", ("anon", "shmem")),
    ):
        if Path(path).exists():
            stat = dict(line.split() for line in Path(path).read_text().splitlines())
            kept = sum(int(stat[name]) for name in names)
    assert 0 < kept < 20 * 1024**2
