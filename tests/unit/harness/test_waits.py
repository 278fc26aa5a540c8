"""Waits seen from the container: what is asked, when the process stops, and what it says then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from samovar import wire
from samovar.wire import Message

from tests.unit.harness.listener import Container
from tests.waiting import eventually

Make = Callable[..., Container]


def answering(one: Container, **states: Any) -> None:
    """Waits are pending, but those whose key (its dots and signs as underscores) says something else."""

    def answer(request: Message) -> Message | None:
        if request["type"] != wire.WAIT:
            return None
        name = request["key"].replace(".", "_").replace("#", "_")
        return wire.reply(request, **{"state": "pending", "left": None, **states.get(name, {})})

    one.sidecar.answer = answer


def test_a_pending_wait_ends_the_attempt_and_leaves_the_container_clean(container: Make) -> None:
    one = container(
        """
        from samovar import task, wait, checkpoint
        @task
        def order() -> str:
            checkpoint("fetch", 1)
            try:
                wait.event("paid", where={"order": 7}, timeout="7d")
            except Exception as error:
                print("caught", error)
            finally:
                print("left")
            return "not yet"
        """
    )
    answering(one)
    finish = one.run("order")
    assert (finish["outcome"], finish["waits"]) == (wire.WAITING, ["wait.event#1"])
    assert finish["container"]["clean"] is True
    assert one.messages() == ["left"]
    (asked,) = one.sidecar.of(wire.WAIT)
    assert (asked["kind"], asked["name"]) == ("event", "paid")
    assert asked["spec"] == {"where": {"order": 7}, "timeout": 7 * 86400.0}
    # and the same container takes it up again
    answering(one, wait_event_1={"state": "done", "value": {"by": "card"}})
    again = one.run("order", "a2", number=2, checkpoints=[{"key": "fetch", "value": 1}])
    assert (again["outcome"], again["result"]) == (wire.COMPLETED, "not yet")


def test_a_wait_that_is_over_goes_on_with_its_value(container: Make) -> None:
    one = container(
        """
        from samovar import task, wait, WaitTimeout, current_run
        @task
        def order() -> list:
            wait.sleep("2h")
            token = wait.token(timeout="1d", key="approval")
            try:
                wait.event("paid", timeout="1m")
            except WaitTimeout as late:
                return [token.id, token.url, token.result(), str(late), current_run().is_replay]
        """
    )
    token = {"state": "done", "id": "tok_1", "url": "http://x/tokens/tok_1", "value": {"yes": True}}
    answering(one, wait_sleep_1={"state": "done"}, approval=token, wait_event_1={"state": "timed_out"})
    late = "the event 'paid' did not come within '1m'"
    assert one.run("order")["result"] == ["tok_1", "http://x/tokens/tok_1", {"yes": True}, late, False]


def test_what_is_sent_along_is_not_asked_for(container: Make) -> None:
    one = container(
        """
        from samovar import task, wait, current_run
        @task
        def order() -> list:
            before = current_run().is_replay
            wait.sleep("2h")
            return [before, current_run().is_replay, wait.event("paid")]
        """
    )
    stored = [
        {"key": "wait.sleep#1", "kind": "sleep", "name": None, "answer": {"state": "done"}},
        {"key": "wait.event#1", "kind": "event", "name": "paid", "answer": {"state": "done", "value": 7}},
    ]
    assert one.run("order", waits=stored)["result"] == [True, True, 7]
    assert one.sidecar.of(wire.WAIT) == []


def test_a_short_sleep_is_slept_in_place(container: Make) -> None:
    one = container(
        """
        import time
        from samovar import task, wait
        @task
        def nap() -> bool:
            began = time.monotonic()
            wait.sleep(0.2)
            return time.monotonic() - began >= 0.2
        """
    )
    asked: list[Message] = []

    def answer(request: Message) -> Message | None:
        if request["type"] != wire.WAIT:
            return None
        asked.append(request)
        return wire.reply(request, state="pending" if len(asked) == 1 else "done", left=0.2)

    one.sidecar.answer = answer
    assert one.run("nap")["result"] is True
    assert len(asked) == 2


SWALLOWS = """
from samovar import task, wait, checkpoint
@task
def stubborn(ends: str) -> str:
    for _ in range(3):
        try:
            wait.token(key="t").result()
        except BaseException as error:
            print(type(error).__name__)
    try:
        checkpoint("later", 1)
    except BaseException as error:
        print(type(error).__name__)
    if ends == "raises":
        raise ValueError("on my way out")
    return "done"
"""


@pytest.mark.parametrize(("ends", "words"), [("returns", "a result"), ("raises", "ValueError: on my way out")])
def test_code_that_catches_everything_is_suspended_all_the_same(container: Make, ends: str, words: str) -> None:
    one = container(SWALLOWS)
    answering(one)
    finish = one.run("stubborn", payload={"ends": ends})
    assert (finish["outcome"], finish["waits"]) == (wire.WAITING, ["t"])
    assert one.messages(stream="stdout") == ["Suspend"] * 4
    (warning,) = one.messages(stream="logging")
    assert words in warning
    assert "catch Exception, not BaseException" in warning
    assert one.sidecar.checkpoints == {}


def test_threads_wait_each_for_its_own(container: Make) -> None:
    one = container(
        """
        from concurrent.futures import ThreadPoolExecutor
        from threading import Barrier
        from samovar import task, wait
        started = Barrier(2)
        def one(key):
            started.wait()  # what has not begun when the first suspends is not begun any more
            return wait.event(key, key=key)
        @task
        def both() -> list:
            with ThreadPoolExecutor(2) as pool:
                return list(pool.map(one, ["a", "b"]))
        """
    )
    answering(one)
    assert sorted(one.run("both")["waits"]) == ["a", "b"]


GATHERS = """
import asyncio
from samovar import task, wait, checkpoint

@task
async def both() -> list:
    async def first():
        await wait.sleep("1h", key="a")
        return 1
    async def second():
        await asyncio.sleep(0.3)
        await checkpoint("work", work)
        return await wait.event("paid", key="b")
    return await asyncio.gather(first(), second())

async def work():
    await asyncio.sleep(0.1)
    return 1

@task
async def group() -> list:
    async with asyncio.TaskGroup() as tasks:
        one = tasks.create_task(wait.event("x", key="a"))
        two = tasks.create_task(wait.event("y", key="b"))
    return [one.result(), two.result()]

@task
async def collects() -> list:
    found = await asyncio.gather(wait.event("x", key="a"), wait.event("y", key="b"), return_exceptions=True)
    return [repr(f) for f in found]

@task
async def timed() -> list:
    found = []
    for guarded in (lambda: asyncio.wait_for(wait.event("x", key="a"), 0.2), within):
        try:
            await guarded()
        except asyncio.TimeoutError:
            found.append("late")
    return found

async def within():
    async with asyncio.timeout(0.2):
        await wait.event("y", key="b")

@task
async def waiting() -> list:
    done, pending = await asyncio.wait([asyncio.ensure_future(wait.event(n, key=n)) for n in ("a", "b")])
    return [t.result() for t in done]

@task
async def in_turn() -> list:
    return [await wait.event("x", key="a"), await wait.event("y", key="b")]

@task
async def one_fails() -> list:
    async def fails():
        await asyncio.sleep(0.05)
        raise ValueError("no")
    return await asyncio.gather(wait.event("x", key="a"), fails())
"""


@pytest.mark.parametrize(
    ("task", "waits"),
    [
        ("both", ["a", "b"]),
        ("group", ["a", "b"]),
        ("collects", ["a", "b"]),
        ("waiting", ["a", "b"]),
        ("in-turn", ["a"]),
    ],
)
def test_a_loop_stops_when_all_that_is_left_waits(container: Make, task: str, waits: list[str]) -> None:
    one = container(GATHERS)
    answering(one)
    finish = one.run(task)
    assert (finish["outcome"], sorted(finish["waits"])) == (wire.WAITING, waits), finish
    assert finish["container"]["clean"] is True
    assert set(one.sidecar.checkpoints) == ({"work"} if task == "both" else set())


def test_an_awaited_wait_that_is_over_gives_its_value(container: Make) -> None:
    one = container(GATHERS)
    over = {"state": "done", "value": 5}
    answering(one, a=over, b=over)
    for n, (task, result) in enumerate([("both", [1, 5]), ("group", [5, 5]), ("in-turn", [5, 5])]):
        assert one.run(task, f"a{n}")["result"] == result


def test_a_timeout_of_asyncio_is_kept_though_it_keeps_the_container(container: Make) -> None:
    one = container(GATHERS)
    answering(one)
    assert one.run("timed")["result"] == ["late", "late"]


def test_a_branch_that_fails_ends_the_run_while_others_wait(container: Make) -> None:
    one = container(GATHERS)
    answering(one)
    finish = one.run("one-fails")
    assert (finish["outcome"], finish["error"]["type"]) == (wire.FAILED, "ValueError")


def test_a_wait_beside_a_long_branch_is_asked_for_again(container: Make) -> None:
    one = container(
        """
        import asyncio
        from samovar import task, wait, suspension
        suspension.ASK_AGAIN = 0.2
        @task
        async def both() -> list:
            stop = asyncio.Event()
            async def heartbeat():
                while not stop.is_set():
                    await asyncio.sleep(0.05)
                return "beat"
            async def first():
                value = await wait.event("x", key="a")
                stop.set()
                return value
            return await asyncio.gather(first(), heartbeat())
        """
    )
    answering(one)
    one.assign("both")
    eventually(lambda: len(one.sidecar.of(wire.WAIT)) >= 3, "the wait to be asked for again")
    answering(one, a={"state": "done", "value": "late"})
    assert one.finish()["result"] == ["late", "beat"]


def test_a_cancel_that_comes_while_it_stops_leaves_it_to_the_coordinator(container: Make, tmp_path: Path) -> None:
    flag = tmp_path / "stopping"
    one = container(
        f"""
        import pathlib, time
        from samovar import task, wait
        @task
        def order() -> None:
            try:
                wait.sleep("2h")
            finally:
                pathlib.Path({str(flag)!r}).touch()
                try:
                    time.sleep(20)
                except BaseException:
                    pass
        """
    )
    answering(one)
    one.assign("order")
    eventually(flag.exists, "the task to stop")
    one.cancel()
    assert one.finish()["outcome"] == wire.WAITING


def test_a_task_that_catches_suspend_and_never_ends_runs_out_of_time(container: Make) -> None:
    """Else it would begin anew for ever, once for each timeout."""
    one = container(
        """
        import time
        from samovar import task, wait
        @task
        def stubborn() -> None:
            while True:
                try:
                    wait.sleep("2h")
                except BaseException as error:
                    print(type(error).__name__, flush=True)
                try:
                    time.sleep(0.1)
                except BaseException:
                    return
        """
    )
    answering(one)
    one.assign("stubborn")
    eventually(lambda: len(one.messages()) > 2, "the task to go round")
    one.cancel(reason="timeout")
    assert one.finish()["outcome"] == wire.TIMED_OUT


def test_what_is_stored_as_another_wait_fails_the_run_without_a_retry(container: Make) -> None:
    one = container(
        """
        from samovar import task, wait, checkpoint
        @task
        def order(how: str) -> None:
            if how == "checkpoint":
                checkpoint("k", 1)
            wait.event("paid", key="k")
        """
    )
    stored = [{"key": "k", "kind": "sleep", "name": None, "answer": {"state": "done"}}]
    for number, (how, words) in enumerate([("checkpoint", "a checkpoint"), ("wait", "the event 'paid'")]):
        finish = one.run("order", f"a{number}", payload={"how": how}, waits=stored)
        assert finish["error"]["type"] == "NonDeterministic"
        assert "a sleep" in finish["error"]["message"]
        assert words in finish["error"]["message"]
        assert finish["retry"]["allowed"] is False
