"""The end of a run's process: bounded, and without a say in what became of the run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from samovar import wire

from tests.unit.harness.listener import Container

Make = Callable[..., Container]


def ends(one: Container, task: str = "f") -> wire.Message:
    finish = one.run(task)
    assert (finish["outcome"], finish.get("result")) == (wire.COMPLETED, 7), finish
    return finish


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (
            "class Stuck(logging.Handler):\n"
            "    def emit(self, record): pass\n"
            "    def flush(self): threading.Event().wait()\n"
            "logging.getLogger().addHandler(Stuck())",
            "Stuck",
        ),
        ("threading.Thread(target=threading.Event().wait, name='forever').start()", "'forever'"),
        ("atexit.register(threading.Event().wait)", "atexit"),
        ("samovar.on_exit(threading.Event().wait)", "on_exit"),
        (
            "class Deaf:\n    def write(self, text): pass\n    def flush(self): threading.Event().wait()\n"
            "sys.stdout = Deaf()",
            "sys.stdout",
        ),
    ],
)
def test_what_does_not_end_is_named_and_left(container: Make, made: str, named: str) -> None:
    body = "\n".join("    " + line for line in made.splitlines())
    one = container(
        f"""
import atexit, logging, sys, threading
import samovar
@samovar.task
def f() -> int:
{body}
    return 7
"""
    )
    ends(one)
    said = [line["message"] for line in one.sidecar.lines() if line["logger"] == "samovar"]
    assert len(said) == 1
    assert named in said[0]
    assert "longer than" in said[0]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            "class Broken(logging.Handler):\n"
            "    def emit(self, record): pass\n"
            "    def flush(self): raise RuntimeError('no disk')\n"
            "logging.getLogger().addHandler(Broken())",
            "no disk",
        ),
        ("atexit.register(lambda: 1 / 0)", "ZeroDivisionError"),
        ("samovar.on_exit(lambda: 1 / 0)", "ZeroDivisionError"),
        ("samovar.on_exit(lambda: sys.exit(3))", "SystemExit"),
        ("threading._register_atexit(lambda: 1 / 0)", "ZeroDivisionError"),
    ],
)
def test_what_raises_is_a_line_of_the_log(container: Make, made: str, said: str) -> None:
    body = "\n".join("    " + line for line in made.splitlines())
    one = container(
        f"""
import atexit, concurrent.futures.thread, logging, sys, threading
import samovar
@samovar.task
def f() -> int:
{body}
    return 7
"""
    )
    finish = ends(one)
    assert finish["container"]["clean"] is True
    assert any(said in text for text in one.messages())


def test_what_ends_in_time_is_done_in_order(container: Make) -> None:
    one = container(
        """
        import atexit, logging, threading
        import samovar
        @samovar.on_exit
        def first_given() -> None:
            print("exit 1")
        @samovar.task
        def f() -> int:
            samovar.on_exit(lambda: print("exit 2"))
            atexit.register(print, "atexit")
            def late() -> None:
                gate.wait(0.2)
                print("thread")
            gate = threading.Event()
            threading.Thread(target=late).start()
            return 7
        """
    )
    ends(one)
    assert one.messages(stream="stdout") == ["exit 2", "exit 1", "thread", "atexit"]


def test_hooks_of_the_import_are_not_those_of_a_forked_run(container: Make) -> None:
    one = container(
        """
        import atexit
        import samovar
        atexit.register(print, "of the import")
        @samovar.task
        def f() -> int:
            return 7
        """
    )
    ends(one)
    assert one.messages(stream="stdout") == []


def test_a_process_that_is_stuck_beyond_python_is_ended(container: Make) -> None:
    one = container(
        """
        import ctypes, signal
        import samovar
        def stuck() -> None:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
            ctypes.CDLL(None).sleep(600)
        samovar.on_exit(stuck)
        @samovar.task
        def f() -> int:
            return 7
        """
    )
    finish = ends(one)
    assert finish["container"]["clean"] is False
    assert any("did not end by itself" in text for text in one.messages())
