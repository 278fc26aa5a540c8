"""Waits and children outside of a container: what `local()` makes of them, and what is refused at once."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from samovar import NonDeterministic, NotInRun, OptionError, RunFailed, WaitTimeout, checkpoint, task, wait
from samovar.context import MemoryStore


@task
def waits_a_lot() -> list:
    wait.sleep("2h")
    wait.until(datetime.now(UTC) + timedelta(days=3))
    paid = wait.event("paid", timeout="7d")
    token = wait.token(timeout="7d", key="approval")
    try:
        return [paid, token.id, token.result()]
    except WaitTimeout as late:
        return [paid, str(late)]


def test_local_skips_sleeps_and_takes_the_rest_from_the_test() -> None:
    store = MemoryStore(waits={"wait.event#1": {"by": "card"}, "approval": True})
    assert waits_a_lot.local_with(store) == [{"by": "card"}, "tok_local_approval", True]
    late = MemoryStore(waits={"wait.event#1": 1, "approval": WaitTimeout})
    assert waits_a_lot.local_with(late) == [1, "the token 'approval' was not completed within '7d'"]


def test_local_says_what_the_test_has_to_give() -> None:
    with pytest.raises(OptionError, match=r"local_with\(MemoryStore\(waits=\{'wait.event#1': \.\.\.\}\)"):
        waits_a_lot.local()
    with pytest.raises(OptionError, match="'approval'"):
        waits_a_lot.local_with(MemoryStore(waits={"wait.event#1": 1}))


def test_local_sleeps_where_it_is_asked_to() -> None:
    @task
    def nap() -> float:
        began = time.monotonic()
        wait.sleep("50ms")
        return time.monotonic() - began

    assert nap.local_with(MemoryStore(sleep=True)) >= 0.05


def test_an_async_task_awaits_them() -> None:
    @task(id="awaits")
    async def awaits() -> list:
        await wait.sleep("2h")
        token = await wait.token(key="t")
        return list(await asyncio.gather(token.result(), wait.event("paid", key="e")))

    assert awaits.local_with(MemoryStore(waits={"t": 1, "e": 2})) == [1, 2]


@task(id="halve")
def halve(n: int) -> int:
    if n % 2:
        raise ValueError(f"{n} is odd")
    return n // 2


def test_local_runs_children_here() -> None:
    @task(id="parent-of-halves")
    def parent() -> list:
        results = halve.batch_trigger_and_wait([{"n": n} for n in (2, 3)])
        first = halve.trigger(n=8)
        try:
            halve.trigger_and_wait(n=5)
        except RunFailed as error:
            message = error.message
        return [halve.trigger_and_wait(n=4), [r.ok for r in results], results[0].result(), first.result(), message]

    assert parent.local() == [2, [True, False], 1, 4, "5 is odd"]


def test_a_key_belongs_to_one_thing() -> None:
    @task(id="mixes")
    def mixes(first: str) -> None:
        if first == "sleep":
            wait.sleep(1, key="k")
        else:
            wait.event("paid", key="k")
        if first == "event":
            wait.event("refunded", key="k")
        checkpoint("k", 1)

    with pytest.raises(NonDeterministic, match=r"a sleep under the key 'k'.*a checkpoint"):
        mixes.local(first="sleep")
    with pytest.raises(NonDeterministic, match=r"event 'paid'.*event 'refunded'"):
        mixes.local_with(MemoryStore(waits={"k": 1}), first="event")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: wait.sleep("soon"), "duration='soon'"),
        (lambda: wait.sleep("400d"), "at most 366 days"),
        (lambda: wait.until(datetime(2030, 1, 1)), "with a zone"),
        (lambda: wait.until("2030-01-01"), "with a zone"),  # type: ignore[arg-type]
        (lambda: wait.event(""), "the event's name"),
        (lambda: wait.token(timeout="x"), "timeout='x'"),
        (lambda: wait.sleep(1, key=""), "a checkpoint's key"),
        (lambda: halve.with_options(idempotency_key="k").batch_trigger([{"n": 2}]), "made once in any case"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_written(call: Any, words: str) -> None:
    @task(id="tries")
    def tries() -> None:
        call()

    with pytest.raises(OptionError, match=words):
        tries.local()


def test_there_has_to_be_a_run() -> None:
    for call in (lambda: wait.sleep(1), lambda: halve.trigger_and_wait(n=2)):
        with pytest.raises(NotInRun):
            call()


@pytest.mark.parametrize("option", [{"key": "k"}, {"detached": True}])
def test_options_of_children_are_for_runs(option: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="only in a run"):
        halve.with_options(**option).trigger(n=2)
