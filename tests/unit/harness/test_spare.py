"""The process that stands ready for the next run: when there is one, what it is given to, and when it goes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from samovar import wire
from samovar.harness import spare as waiting
from samovar.harness.ends import Ends
from samovar.harness.spare import Spare

from tests.unit.harness.listener import Container
from tests.waiting import eventually

Make = Callable[..., Container]

CODE = """
import os, subprocess, sys, time
from samovar import task

@task
def who(): return os.getpid()

@task(isolation="inline")
def inline(): return os.getpid()

@task
def changes():
    global seen
    seen = globals().get("seen", 0) + 1
    return [os.getpid(), seen]

@task
def leaves(): subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], start_new_session=True)

@task
def sleeps(): time.sleep(3600)
"""


def test_a_run_is_in_the_process_that_stood_ready_and_each_in_another(container: Make) -> None:
    one = container(CODE)
    seen = set()
    for number in range(5):
        pid = one.stands_ready()
        assert one.run("changes", f"a{number}")["result"] == [pid, 1]
        seen.add(pid)
    assert len(seen) == 5


def test_the_first_run_finds_one_too(container: Make) -> None:
    one = container(CODE)
    pid = one.stands_ready()
    assert one.run("who")["result"] == pid


def test_one_that_waits_for_another_kind_of_run_is_let_go_of(container: Make) -> None:
    one = container(CODE)
    pid = one.stands_ready()
    begun = one.run("inline", "a1", isolation="inline")["result"]
    assert begun != pid
    assert pid not in one.children()
    # beside one that is kept for inline runs there is none
    assert one.children()[1:] == [begun]
    assert one.run("who", "a2")["result"] not in (pid, begun)
    assert one.run("who", "a3", start="fresh")["outcome"] == wire.COMPLETED
    assert one.run("who", "a4")["outcome"] == wire.COMPLETED


def test_a_cancel_right_after_it_was_let_go_of_meets_the_run_and_nobody_else(container: Make) -> None:
    one = container(CODE)
    for number in range(3):
        one.stands_ready()
        one.assign("sleeps", f"a{number}", start="fresh" if number % 2 else "fork")
        one.cancel(f"a{number}", grace=5)
        assert one.finish(f"a{number}")["outcome"] == wire.CANCELED
        one.run("who", f"b{number}")


def test_one_that_is_killed_is_no_runs_end(container: Make) -> None:
    one = container(CODE)
    pid = one.stands_ready()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: pid not in one.children(), "it to be gone")
    assert one.run("who", "a1")["outcome"] == wire.COMPLETED
    assert one.run("who", "a2")["result"] != pid


def test_in_a_container_that_is_not_used_again_there_is_none(container: Make) -> None:
    one = container(CODE)
    one.run("leaves")
    released = eventually(lambda: one.sidecar.of(wire.RELEASED), "the container to be released")[0]
    assert released["container"]["clean"] is False
    with pytest.raises(AssertionError, match="in vain"):
        eventually(lambda: len(one.children()) > 1, "another one", 20 * waiting._QUIET)


def test_it_is_let_go_of_where_nobody_uses_the_container(container: Make) -> None:
    one = container(CODE)
    pid = one.stands_ready()
    eventually(lambda: pid not in one.children(), "it to be let go of", 30)
    assert one.run("who", "a1")["outcome"] == wire.COMPLETED


def test_it_goes_with_process_1(container: Make) -> None:
    one = container(CODE)
    pid = one.stands_ready()
    one.process.kill()
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "it to be gone")


class Times:
    """A clock that moves when it is told to, and the pipe of pids."""

    def __init__(self) -> None:
        self.now = 100.0
        self.ordered: list[str] = []
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.spare = Spare(self._order, self.reading, lambda: self.now)

    def _order(self, start: str, ends: Ends) -> None:
        self.ordered.append(start)
        ends.given()

    def fork(self, start: str) -> None:
        self.spare.prepare(start)
        self.pass_by()

    def pass_by(self) -> None:
        """Whatever is due next."""
        assert self.spare.deadline is not None
        self.now = self.spare.deadline
        self.spare.tick()

    def close(self) -> None:
        for descriptor in (self.reading, self.writing):
            os.close(descriptor)


@pytest.fixture
def times() -> Iterator[Times]:
    one = Times()
    yield one
    one.close()


def test_ends_are_told_apart_by_their_order(times: Times) -> None:
    spare = times.spare
    spare.prepare("auto")
    assert spare.take("auto") is None
    spare.ended()  # nobody's: what the zygote says is not believed to be more than it can be
    assert spare.settled
    times.fork("auto")
    spare.prepare("auto")
    assert times.ordered == ["auto"]
    assert spare.take("fresh") is None
    assert not spare.settled
    os.write(times.writing, b"7\n8\n")
    assert spare.ended() == 8
    assert spare.settled
    times.fork("fork")
    ends = spare.take("fork")
    assert ends is not None
    ends.close()
    assert spare.settled
    assert spare.deadline is None


def test_it_waits_for_so_long(times: Times) -> None:
    times.fork("auto")
    forked = times.now
    times.pass_by()
    assert times.now == forked + waiting._WAITS
    assert times.spare.deadline is None
    assert not times.spare.settled


def test_for_a_run_that_comes_at_once_none_is_forked(times: Times) -> None:
    spare = times.spare
    spare.prepare("auto")
    spare.tick()
    assert spare.take("auto") is None
    times.now += 3600  # the run takes its time
    spare.tick()
    assert (times.ordered, spare.deadline, spare.settled) == ([], None, True)
    times.fork("auto")
    assert times.ordered == ["auto"]
    ends = spare.take("auto")
    assert ends is not None
    ends.close()


def test_none_is_forked_where_runs_come_further_apart_than_it_would_wait(times: Times) -> None:
    spare = times.spare
    # the first run of a container that was started for it
    assert spare.take("auto") is None
    spare.prepare("auto")
    assert spare.deadline is None
    times.now += waiting._WAITS + 1
    assert spare.take("auto") is None
    spare.prepare("auto")
    assert spare.deadline is None
    # and where they come often again, after the first of them
    times.now += waiting._WAITS
    assert spare.take("auto") is None
    times.fork("auto")
    assert times.ordered == ["auto"]
    times.now += waiting._WAITS + 1
    times.spare.tick()
    assert spare.take("auto") is None
    spare.prepare("auto")
    assert spare.deadline is None
