"""How an attempt ends: exits, signals, cancels, leftovers, a zygote that dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from samovar import wire

from tests.unit.harness.listener import Container
from tests.waiting import eventually

Make = Callable[..., Container]

ENDINGS = """
import ctypes, os, signal, sys, threading, time
from samovar import task
@task
def leave(code: int): sys.exit(code)
@task
def drop(code: int): os._exit(code)
@task
def die(number: int): os.kill(os.getpid(), number)
@task
def crash(): ctypes.string_at(0)
@task
def fork():
    # the fork returns from the task too, and must not answer for it
    return "parent" if os.fork() else "child"
@task
def thread():
    threading.Thread(target=time.sleep, args=(3600,)).start()
    return "done"
@task
def ok(): return 1
"""


@pytest.mark.parametrize(
    ("task", "payload", "kind", "words", "code"),
    [
        ("leave", {"code": 0}, "SystemExit", "called sys.exit(0) before it returned", 0),
        ("leave", {"code": 3}, "SystemExit", "called sys.exit(3) before it returned", 0),
        ("drop", {"code": 0}, "ProcessExited", "exited with code 0 before the task returned", 0),
        ("drop", {"code": 7}, "ProcessExited", "exited with code 7 before the task returned", 7),
        ("die", {"number": 9}, "ProcessKilled", "was killed by SIGKILL", 137),
        ("die", {"number": 6}, "ProcessKilled", "was killed by SIGABRT (abort())", 134),
        ("crash", {}, "ProcessKilled", "was killed by SIGSEGV (a segmentation fault)", 139),
    ],
)
def test_an_end_without_a_result_is_told_as_what_it_was(
    container: Make, task: str, payload: dict[str, int], kind: str, words: str, code: int
) -> None:
    one = container(ENDINGS)
    finish = one.run(task, payload=payload)
    assert (finish["outcome"], finish["error"]["type"]) == (wire.FAILED, kind)
    assert finish["error"]["reason"] == "exception"
    assert words in finish["error"]["message"]
    assert finish["usage"]["exit_code"] == code
    assert finish["retry"] == {"allowed": True, "after": None}
    assert one.run("ok", "a2")["result"] == 1


def test_a_segmentation_fault_leaves_its_python_stack_in_the_log(container: Make) -> None:
    one = container(ENDINGS)
    finish = one.run("crash")
    assert finish["container"]["clean"] is False
    text = "\n".join(one.messages(stream="stderr"))
    assert "Segmentation fault" in text
    assert "in crash" in text


def test_a_forked_copy_of_the_task_does_not_answer_for_it(container: Make) -> None:
    one = container(ENDINGS)
    assert one.run("fork")["result"] == "parent"


def test_threads_left_behind_do_not_hold_the_run(container: Make) -> None:
    one = container(ENDINGS)
    finish = one.run("thread")
    assert finish["result"] == "done"
    assert finish["container"]["clean"] is True


CANCELS = """
import asyncio, signal, subprocess, sys, threading, time
from samovar import task, checkpoint
@task
def polite():
    try:
        threading.Timer(0.2, print, ["working"]).start()  # said when the task is asleep
        while True: time.sleep(60)
    finally:
        print("cleaned up")
@task
async def polite_async():
    try:
        asyncio.get_running_loop().call_later(0.05, print, "working")
        await asyncio.sleep(3600)
    finally:
        print("cleaned up")
@task
def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    code = "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(3600)"
    subprocess.Popen([sys.executable, "-c", code])
    print("working")
    while True: time.sleep(60)
@task
def late():
    try:
        print("working")
        while True: time.sleep(60)
    except BaseException:
        return "done after all"
@task
def storing():
    print("working")
    try: checkpoint("k", 1)
    finally: print("cleaned up")
"""


@pytest.mark.parametrize("task", ["polite", "polite-async"])
@pytest.mark.parametrize(
    ("reason", "outcome", "kind"),
    [("canceled", wire.CANCELED, "Canceled"), ("timeout", wire.TIMED_OUT, "Timeout")],
)
def test_a_cancel_runs_finally_blocks(container: Make, task: str, reason: str, outcome: str, kind: str) -> None:
    one = container(CANCELS)
    one.assign(task)
    eventually(lambda: "working" in one.messages(), "the task at work")
    one.cancel(reason=reason, grace=60)
    finish = one.finish()
    assert (finish["outcome"], finish["error"]["type"], finish["error"]["reason"]) == (outcome, kind, reason)
    assert one.messages() == ["working", "cleaned up"]
    assert "sleep" in finish["error"]["traceback"], "where it was when its time ran out"
    assert finish["retry"]["allowed"] is (reason == "timeout")
    assert finish["container"]["clean"] is False


def test_what_ignores_sigterm_is_killed_after_the_grace(container: Make) -> None:
    one = container(CANCELS)
    one.assign("stubborn")
    eventually(lambda: "working" in one.messages(), "the task at work")
    one.cancel(reason="timeout", grace=0.2)
    finish = one.finish()
    assert finish["outcome"] == wire.TIMED_OUT
    assert finish["usage"]["exit_code"] == 137
    assert len(one.children()) == 1, "only the zygote is left"


def test_a_result_that_comes_before_the_end_wins_over_the_cancel(container: Make) -> None:
    one = container(CANCELS)
    one.assign("late")
    eventually(lambda: "working" in one.messages(), "the task at work")
    one.cancel(grace=60)
    finish = one.finish()
    assert (finish["outcome"], finish["result"]) == (wire.COMPLETED, "done after all")


def test_a_cancel_waits_for_the_checkpoint_that_is_being_stored(container: Make) -> None:
    one = container(CANCELS)
    one.sidecar.silent.add(wire.CHECKPOINT_PUT)
    one.assign("storing")
    put = eventually(lambda: one.sidecar.of(wire.CHECKPOINT_PUT), "the checkpoint on its way")[0]
    one.cancel(grace=60)
    one.sidecar.send(wire.reply(put, stored=True))
    assert one.finish()["outcome"] == wire.CANCELED
    assert one.messages() == ["working", "cleaned up"]


def test_a_cancel_of_another_attempt_changes_nothing(container: Make) -> None:
    one = container(ENDINGS)
    one.cancel("a0")
    assert one.run("ok")["outcome"] == wire.COMPLETED
    one.cancel("a1")
    assert one.run("ok", "a2")["outcome"] == wire.COMPLETED


def test_processes_left_behind_are_killed_and_counted(container: Make) -> None:
    one = container(
        """
        import os, subprocess, sys, time
        from samovar import task
        @task
        def leave():
            pids = []
            for _ in range(3):
                pids.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"],
                                             start_new_session=True).pid)
            if os.fork() == 0:      # a daemon: its parent is gone at once
                if os.fork() == 0:
                    os.setsid()
                    time.sleep(3600)
                os._exit(0)
            os.wait()
            return pids
        """
    )
    finish = one.run("leave")
    assert finish["outcome"] == wire.COMPLETED
    assert finish["container"] == {**finish["container"], "clean": False, "leftovers": 4}
    for pid in finish["result"]:
        assert not Path(f"/proc/{pid}").exists()
    assert len(one.children()) == 1


def test_a_process_whose_first_thread_has_ended_is_left_behind_too(container: Make) -> None:
    one = container(
        """
        import ctypes, os, threading, time
        from samovar import task
        @task
        def leave():
            ready, told = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.setsid()
                threading.Thread(target=lambda: (time.sleep(0.01), os.write(told, b"."), time.sleep(3600))).start()
                ctypes.CDLL(None).syscall(60, 0)    # exit: of this thread alone
            os.read(ready, 1)
            state = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
            return pid, state
        """
    )
    finish = one.run("leave")
    pid, state = finish["result"]
    assert state == "Z", "it looks dead"
    assert finish["container"] == {**finish["container"], "clean": False, "leftovers": 1}
    assert not Path(f"/proc/{pid}").exists()


def test_scratch_is_wiped_whatever_a_run_made_of_it(container: Make) -> None:
    one = container(
        """
        import os
        from samovar import task
        @task
        def litter():
            os.chdir(os.environ["HOME"])
            os.makedirs("a/b/c"); open("a/b/c/file", "w").close()
            os.symlink("/etc", "a/link"); os.mkfifo("a/pipe")
            os.makedirs("closed/inner"); open("closed/inner/x", "w").close(); os.chmod("closed/inner", 0)
            os.chmod("closed", 0)
            open(b"\\xff\\xfe name", "w").close()
            os.mkdir("deep"); os.chdir("deep")
            for _ in range(1500):       # far deeper than a path may be long, or than Python recurses
                os.mkdir("d" * 20); os.chdir("d" * 20)
        @task
        def look(): return os.listdir(os.environ["HOME"])
        """
    )
    finish = one.run("litter")
    assert finish["outcome"] == wire.COMPLETED, finish
    assert finish["container"]["leftovers"] == 0
    assert finish["container"]["clean"] is True
    assert list(one.scratch.iterdir()) == []
    assert one.run("look", "a2")["result"] == []


def test_a_zygote_that_dies_ends_the_run_and_process_1(container: Make) -> None:
    one = container(
        """
        import os, time
        from samovar import task
        @task
        def patricide():
            os.kill(os.getppid(), 9)
            time.sleep(3600)
        """
    )
    finish = one.run("patricide")
    assert finish["outcome"] == wire.FAILED
    assert "killed its parent" in finish["error"]["message"]
    assert finish["container"]["clean"] is False
    assert one.process.wait(10) == 1


def test_an_idle_container_whose_zygote_dies_ends(container: Make) -> None:
    one = container(ENDINGS)
    eventually(lambda: one.sidecar.of(wire.READY), "ready")
    one.kill(one.children()[0], signal.SIGKILL)
    assert one.process.wait(10) == 1


def test_two_hundred_runs_leave_no_descriptor_and_no_process(container: Make) -> None:
    one = container(ENDINGS)
    for number in range(2):
        one.run("ok", f"warm-up{number}")
    zygote = one.children()[0]

    def held() -> tuple[int, int]:
        one.stands_ready()
        return len(os.listdir(f"/proc/{one.process.pid}/fd")), len(os.listdir(f"/proc/{zygote}/fd"))

    before = held()
    for number in range(200):
        assert one.run("ok", f"n{number}")["container"]["clean"] is True
    assert held() == before
    assert one.children() == [zygote, one.stands_ready()]


def test_a_result_is_told_while_what_the_run_has_left_is_still_there(container: Make) -> None:
    one = container(
        """
        import subprocess, sys
        from samovar import task
        @task
        def leave():
            code = "import time; time.sleep(3600)"
            return subprocess.Popen([sys.executable, "-c", code], start_new_session=True).pid
        """
    )
    one.sidecar.silent.add(wire.FINISH)
    one.assign("leave")
    finish = eventually(lambda: one.sidecar.of(wire.FINISH), "the finish")[0]
    assert (finish["outcome"], finish["container"]) == (wire.COMPLETED, None)
    eventually(lambda: not Path(f"/proc/{finish['result']}").exists(), "what was left to be killed")
    assert not one.sidecar.of(wire.RELEASED), "not before the finish is answered"
    one.sidecar.send(wire.reply(finish))
    released = eventually(lambda: one.sidecar.of(wire.RELEASED), "the release")[0]
    assert (released["attempt"], released["exit_code"]) == ("a1", 0)
    assert released["container"] == {**released["container"], "clean": False, "leftovers": 1}


def test_a_process_that_says_its_end_and_stays_is_killed_and_its_result_kept(container: Make) -> None:
    one = container(
        """
        import time
        from samovar import task
        from samovar.harness import process
        @task
        def stay():
            process._store.send({"type": "ended", "peak": 1})   # before a last word it is nothing
            process._store.send({"type": "result", "value": 7})
            process._store.send({"type": "result", "value": 8})
            process._store.send({"type": "ended", "peak": "much"})
            time.sleep(3600)
        """
    )
    finish = one.run("stay")
    assert (finish["outcome"], finish["result"]) == (wire.COMPLETED, 7)
    assert finish["container"]["clean"] is False
    assert one.sidecar.of(wire.RELEASED)[0]["exit_code"] == 137
    assert len(one.children()) == 1
