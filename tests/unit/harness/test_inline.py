"""Runs of isolation="inline": one process after the other's run, its globals kept and nothing else."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from samovar import wire

from tests.unit.harness.docked import Docked, folders
from tests.unit.harness.listener import Container
from tests.waiting import eventually

Make = Callable[..., Container]

CODE = """
import asyncio, contextvars, logging, os, random, signal, subprocess, sys, threading, time
import samovar
from samovar import checkpoint, current_run, task, wait

count = 0
mine = contextvars.ContextVar("mine", default="nobody's")
atexit_ran = []

@samovar.on_exit
def at_each_end(): print("the end of", current_run().attempt)

@task
def add():
    global count
    count += 1
    return [os.getpid(), count]

@task
def separate(): return [os.getpid(), count]

@task
def disturb():
    os.environ["LEFT"] = "x"
    os.environ.pop("HOME")
    os.chdir("/")
    os.umask(0o777)
    mine.set("a run's")
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    sys.stdout = open(os.devnull, "w")
    sys.stderr = None
    samovar.on_exit(lambda: None)
    with open(os.path.join(sys.argv[0] if False else os.environ.get("SAMOVAR_SCRATCH", "/tmp"), "left"), "w"):
        pass

@task
def look():
    print("out")
    print("err", file=sys.stderr)
    logging.info("logged")
    mask = os.umask(0); os.umask(mask)
    return {
        "left": os.environ.get("LEFT"), "home": os.environ.get("HOME"), "cwd": os.getcwd(), "mask": mask,
        "mine": mine.get(), "timer": signal.getitimer(signal.ITIMER_REAL)[0],
        "scratch": os.listdir(os.environ.get("SAMOVAR_SCRATCH", "/tmp")),
        "attempt": current_run().attempt, "pid": os.getpid(),
    }

@task
def steps():
    first, second = checkpoint("step", lambda: 1), checkpoint("step", lambda: 2)
    return [first, second, current_run().is_replay]

@task
def fails(): raise ValueError("no")

@task
def leaves(): sys.exit(3)

@task
def drops(code: int): os._exit(code)

@task
def dies(): os.kill(os.getpid(), signal.SIGKILL)

@task
def sleeps():
    print("asleep")
    time.sleep(600)

@task
def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("asleep")
    time.sleep(600)

@task
async def waits():
    await asyncio.sleep(0)
    return [os.getpid(), mine.get()]

@task
def thread():
    "A thread that the project keeps, as a pool of connections has one."
    global kept
    kept = threading.Event()
    threading.Thread(target=kept.wait).start()
    return os.getpid()

@task
def child(): subprocess.Popen(["sleep", "600"])

@task
def forks():
    "The fork returns from the task too, and must not go on as the kept process."
    return [os.fork() > 0, count]

@task
def suspends(): return wait.token("t").result()
"""


def inline(one: Container, task: str, attempt: str, **fields: Any) -> Any:
    finish = one.run(task, attempt, isolation="inline", **fields)
    assert finish["outcome"] == wire.COMPLETED, finish.get("error")
    assert finish["container"]["clean"] is True, finish["container"]
    return finish["result"]


def test_runs_share_a_process_and_its_globals(container: Make) -> None:
    one = container(CODE)
    found = [inline(one, "add", f"a{number}") for number in range(4)]
    assert [count for _, count in found] == [1, 2, 3, 4]
    assert len({pid for pid, _ in found}) == 1
    assert found[0][0] in one.children()


def test_a_run_that_is_not_inline_has_a_process_and_globals_of_its_own(container: Make) -> None:
    one = container(CODE)
    (kept, _), (again, count) = inline(one, "add", "a1"), inline(one, "add", "a2")
    assert (kept, count) == (again, 2)
    finish = one.run("separate", "a3")
    assert finish["result"][0] != kept
    assert finish["result"][1] == 0
    assert kept not in one.children(), "it is not beside a run that has a process of its own"
    assert inline(one, "add", "a4")[1] == 1


def test_what_belongs_to_a_run_ends_with_it(container: Make) -> None:
    one = container(CODE)
    pid = inline(one, "add", "a0")[0]
    before = inline(one, "look", "a1", number=1)
    inline(one, "disturb", "a2", number=2)
    after = inline(one, "look", "a3", number=3)
    assert before["pid"] == after["pid"] == pid
    assert after == {**before, "attempt": 3, "left": None, "timer": 0.0, "scratch": []}
    for attempt, number in (("a1", 1), ("a3", 3)):
        assert one.messages(attempt, "stdout") == ["out", f"the end of {number}"]
        assert one.messages(attempt, "stderr") == ["err"]
        assert one.messages(attempt, "logging") == ["logged"]
    assert one.messages("a2") == [], "what it wrote went to where it led its output"


def test_checkpoints_are_those_of_the_run(container: Make) -> None:
    one = container(CODE)
    given = [{"key": "step", "value": 7}]
    assert inline(one, "steps", "a1", checkpoints=given) == [7, 7, False]
    assert inline(one, "steps", "a2") == [1, 1, False]
    assert inline(one, "steps", "a3", checkpoints=given) == [7, 7, False]


def test_an_exception_leaves_the_process_there(container: Make) -> None:
    one = container(CODE)
    pid = inline(one, "add", "a1")[0]
    for number, (task, kind) in enumerate((("fails", "ValueError"), ("leaves", "SystemExit"))):
        finish = one.run(task, f"b{number}", isolation="inline")
        assert (finish["outcome"], finish["error"]["type"]) == (wire.FAILED, kind)
        assert finish["container"]["clean"] is True
    assert inline(one, "add", "a2") == [pid, 2]
    suspended = one.run("suspends", "a3", isolation="inline")
    assert suspended["outcome"] in (wire.WAITING, wire.FAILED)
    assert inline(one, "add", "a4") == [pid, 3]


@pytest.mark.parametrize(
    ("task", "payload", "kind", "code", "clean"),
    [
        ("drops", {"code": 7}, "ProcessExited", 7, True),
        ("dies", {}, "ProcessKilled", 137, False),
    ],
)
def test_a_death_is_the_runs_and_the_next_one_has_a_new_process(
    container: Make, task: str, payload: dict[str, int], kind: str, code: int, clean: bool
) -> None:
    one = container(CODE)
    pid = inline(one, "add", "a1")[0]
    finish = one.run(task, "a2", isolation="inline", payload=payload)
    assert (finish["outcome"], finish["error"]["type"]) == (wire.FAILED, kind)
    assert (finish["usage"]["exit_code"], finish["container"]["clean"]) == (code, clean)
    found = inline(one, "add", "a3")
    assert found[0] != pid
    assert found[1] == 1


def test_a_process_that_dies_between_two_runs_costs_neither(container: Make) -> None:
    one = container(CODE)
    pid = inline(one, "add", "a1")[0]
    one.kill(pid, signal.SIGKILL)
    eventually(lambda: not _alive(pid), "its death")
    assert inline(one, "add", "a2")[1] == 1


@pytest.mark.parametrize(("task", "grace"), [("sleeps", 5.0), ("stubborn", 0.2)])
@pytest.mark.parametrize("reason", ["canceled", "timeout"])
def test_a_cancel_ends_the_process(container: Make, task: str, grace: float, reason: str) -> None:
    one = container(CODE)
    pid = inline(one, "add", "a1")[0]
    one.assign(task, "a2", isolation="inline")
    eventually(lambda: "asleep" in one.messages("a2"), "the run to be under way")
    one.cancel("a2", reason, grace)
    finish = one.finish("a2")
    assert finish["outcome"] == (wire.CANCELED if reason == "canceled" else wire.TIMED_OUT)
    assert finish["container"]["clean"] is False
    assert pid not in one.children()
    assert inline(one, "add", "a3")[1] == 1


def test_async_tasks_and_threads(container: Make) -> None:
    one = container(CODE)
    pid = inline(one, "thread", "a1")
    assert inline(one, "waits", "a2") == [pid, "nobody's"]
    assert inline(one, "waits", "a3") == [pid, "nobody's"]


def test_a_process_that_a_run_leaves_ends_its_container(container: Make) -> None:
    one = container(CODE)
    pid = inline(one, "add", "a1")[0]
    finish = one.run("child", "a2", isolation="inline")
    assert finish["outcome"] == wire.COMPLETED
    assert (finish["container"]["clean"], finish["container"]["leftovers"]) == (False, 1)
    assert pid in one.children()
    forked = one.run("forks", "a3", isolation="inline")
    assert forked["result"] == [True, 1]
    assert inline(one, "add", "a4") == [pid, 2]


IMPORTS_A_THREAD = """
import os, threading, time
from samovar import task
threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
imported = 0
count = 0
print("imported")

@task
def add():
    global count
    count += 1
    return [os.getpid(), count, os.environ.get("LEFT"), sorted(t.name for t in threading.enumerate())]

@task
def disturb(): os.environ["LEFT"] = "x"
"""


def test_where_a_fork_would_not_do_an_interpreter_is_kept(container: Make) -> None:
    one = container(IMPORTS_A_THREAD)
    first = inline(one, "add", "a1")
    assert len(first[3]) == 2
    inline(one, "disturb", "a2")
    assert inline(one, "add", "a3") == [first[0], 2, None, first[3]]
    assert "imported" in one.messages("a1")
    assert "imported" not in one.messages("a3")
    assert not any("each run starts a Python" in line for line in one.messages("a1")), "it does not"


@pytest.fixture
def docked(base_image: str) -> Iterator[Docked]:
    with folders() as folder:
        one = Docked(folder(), base_image, CODE)
        yield one
        one.close()


@pytest.mark.docker
def test_in_a_container_only_what_is_kept_is_left(docked: Docked) -> None:
    pid = inline(docked, "add", "a1")[0]
    assert docked.processes() == 3
    inline(docked, "disturb", "a2")
    assert inline(docked, "look", "a3")["scratch"] == []
    assert inline(docked, "add", "a4") == [pid, 2]
    assert docked.run("child", "a5", isolation="inline")["container"]["clean"] is False
    assert docked.processes() == 3
    assert docked.run("separate", "a6")["container"]["clean"] is True
    eventually(lambda: docked.processes() == 3, "one to stand ready for the next run that is separate")
    docked.assign("stubborn", "a7", isolation="inline")
    eventually(lambda: "asleep" in docked.messages("a7"), "the run to be under way")
    docked.cancel("a7", grace=0.2)
    assert docked.finish("a7")["outcome"] == wire.CANCELED
    assert docked.processes() == 2


def test_a_process_kept_is_gone_with_its_container(container: Make) -> None:
    one = container(CODE)
    pid = inline(one, "add", "a1")[0]
    one.process.kill()
    eventually(lambda: not _alive(pid), "the kept process to be gone")


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
