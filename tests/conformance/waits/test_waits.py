"""Waits: how a run is suspended and goes on, whoever resolves what it waits for, and in whatever order."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coordinator import why
from coordinator.attempts import checkpoints
from coordinator.foundation.errors import Conflict, Gone, Invalid, NotFound, StaleAttempt
from coordinator.runs import plans, runs, triggers
from coordinator.sources import events
from coordinator.storage.values import Stored, decode
from coordinator.waits import waits
from coordinator.wire import EventRequest, ReplayRequest
from tests.conformance.store import Store, task_entry


def emit(store: Store, name: str = "paid", payload: Any = None, **fields: Any) -> None:
    store.write(events.emit, EventRequest(name=name, payload=payload or {}, **fields), store.payloads)


def test_a_sleep_ends_by_itself_and_the_run_goes_on(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    called = store.wait(claimed, "sleep", seconds=60)
    assert (called.row.status, called.row.due_at) == ("pending", store.now + 60)
    ended = store.suspend(claimed, "sleep")
    assert (ended.status, ended.final) == ("waiting", False)
    assert store.live_attempts() == 0
    store.now += 59
    store.sweep()
    assert store.run(claimed.run.id).status == "waiting"
    assert store.claim() == []
    store.now += 1
    assert store.sweep().topics >= {"claims", f"run:{claimed.run.id}"}
    again = store.claim_one()
    assert (again.number, [(w.key, w.status) for w in again.waits]) == (2, [("sleep", "done")])
    store.start(again)
    assert store.wait(again, "sleep", seconds=1).row.status == "done"
    assert store.complete(again).status == "completed"
    assert [a.status for a in store.attempts(claimed.run.id)] == ["suspended", "completed"]


def test_the_sweep_says_when_the_next_wait_is_over(store: Store) -> None:
    store.deploy()
    store.suspended(seconds=90)
    assert store.sweep().next_due == 90


def test_a_wait_is_no_failure_and_keeps_the_retries(store: Store) -> None:
    store.deploy(task_entry("greet", retry={"max_attempts": 2, "min_delay": 1, "factor": 1, "jitter": False}))
    claimed = store.suspended(seconds=5)
    for _ in range(3):
        store.now += 5
        store.sweep()
        claimed = store.claim_one()
        store.wait(claimed, "sleep", f"again-{claimed.number}", seconds=5)
        store.suspend(claimed, f"again-{claimed.number}")
    store.now += 5
    store.sweep()
    claimed = store.claim_one()
    assert store.run(claimed.run.id).failures == 0
    assert store.fail(claimed).status == "delayed"


def test_a_wait_that_is_over_when_its_run_stops_lets_it_go_on_at_once(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    store.wait(claimed, "token")
    store.complete_token(claimed.run.id, "token", {"yes": True})
    assert store.suspend(claimed, "token").status == "queued"
    assert store.wait(store.claim_one(), "token").row.value == '{"yes":true}'


def test_only_what_a_run_stopped_for_wakes_it(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    store.wait(claimed, "token", "later")
    store.wait(claimed, "sleep", seconds=60)
    assert store.suspend(claimed, "sleep").status == "waiting"
    store.complete_token(claimed.run.id, "later", 1)
    assert store.run(claimed.run.id).status == "waiting"
    store.now += 60
    store.sweep()
    again = store.claim_one()
    assert store.wait(again, "token", "later").row.status == "done"


def test_a_token_is_completed_once(store: Store) -> None:
    store.deploy()
    claimed = store.suspended("token", timeout=60)
    assert store.complete_token(claimed.run.id, "token", "a") >= {"claims"}
    with pytest.raises(Conflict, match="completed already"):
        store.complete_token(claimed.run.id, "token", "b")
    with pytest.raises(NotFound):
        store.complete_token(claimed.run.id, "other")
    again = store.claim_one()
    assert store.wait(again, "token", timeout=60).row.value == '"a"'


def test_a_token_that_comes_late_is_refused_before_the_sweep_and_after(store: Store) -> None:
    store.deploy()
    claimed = store.suspended("token", timeout=60)
    store.now += 60
    with pytest.raises(Gone, match="in time"):
        store.complete_token(claimed.run.id, "token")
    store.sweep()
    with pytest.raises(Gone, match="in time"):
        store.complete_token(claimed.run.id, "token")
    assert store.wait(store.claim_one(), "token", timeout=60).row.status == "timed_out"


def test_an_event_wakes_the_runs_it_fits(store: Store) -> None:
    store.deploy()
    one = store.suspended("event", name="paid", where={"order": 1})
    two = store.suspended("event", name="paid", where={"order": 2})
    other = store.suspended("event", name="refunded")
    emit(store, payload={"order": 2, "by": "card"})
    assert store.run(one.run.id).status == store.run(other.run.id).status == "waiting"
    again = store.claim_one()
    assert again.run.id == two.run.id
    value = store.wait(again, "event", name="paid", where={"order": 2}).row.value
    assert decode(value) == {
        "order": 2,
        "by": "card",
    }


def test_an_event_that_came_before_the_wait_counts_from_the_runs_beginning(store: Store) -> None:
    store.deploy()
    emit(store, payload={"n": 0})
    store.now += 1
    claimed = store.started()
    emit(store, payload={"n": 1})
    store.now += 1
    emit(store, payload={"n": 2})
    assert [decode(store.wait(claimed, "event", f"e{n}", "paid").row.value) for n in (1, 2)] == [{"n": 1}, {"n": 2}]
    assert store.wait(claimed, "event", "e3", "paid").row.status == "pending"


def test_an_event_is_taken_by_one_wait_of_a_run(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    store.wait(claimed, "event", "first", "paid")
    store.wait(claimed, "event", "second", "paid")
    store.suspend(claimed, "first", "second")
    emit(store, payload={"n": 1})
    again = store.claim_one()
    assert [store.wait(again, "event", key, "paid").row.status for key in ("first", "second")] == [
        "done",
        "pending",
    ]
    # and a later wait of the run does not find it either
    assert store.wait(again, "event", "third", "paid").row.status == "pending"


def test_an_event_of_another_project_wakes_nobody(store: Store) -> None:
    store.deploy()
    store.deploy(task_entry("ship"), project="shipping")
    claimed = store.suspended("event", name="paid")
    emit(store, project="shipping")
    assert store.run(claimed.run.id).status == "waiting"
    emit(store, project="orders")
    assert store.run(claimed.run.id).status == "queued"


def test_a_bad_filter_is_named(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    with pytest.raises(Invalid, match=r"where\.amount"):
        store.wait(claimed, "event", name="paid", where={"amount": {"above": 3}})


@pytest.mark.parametrize("seconds", [-1, "5", None, 1e12, True])
def test_a_sleep_has_a_length(store: Store, seconds: Any) -> None:
    store.deploy()
    with pytest.raises(Invalid, match="seconds"):
        store.wait(store.started(), "sleep", seconds=seconds)


def test_another_wait_under_a_key_is_refused_with_both_named(store: Store) -> None:
    store.deploy()
    claimed = store.suspended("event", name="paid")
    emit(store)
    again = store.claim_one()
    with pytest.raises(Conflict, match=r"a wait for the event 'paid'.*a wait for the event 'refunded'") as refused:
        store.wait(again, "event", name="refunded")
    assert refused.value.code == "nondeterministic"
    with pytest.raises(Conflict, match=r"a wait for the event 'paid'.*a sleep"):
        store.wait(again, "sleep", "event", seconds=1)
    with pytest.raises(Conflict, match=r"a wait for the event.*a checkpoint"):
        store.write(checkpoints.put, again.attempt, again.token, "event", Stored("1", None, 1))
    store.write(checkpoints.put, again.attempt, again.token, "fetch", Stored("1", None, 1))
    with pytest.raises(Conflict, match=r"a checkpoint.*a sleep"):
        store.wait(again, "sleep", "fetch", seconds=1)
    assert store.run(claimed.run.id).status == "running"


def test_a_stale_attempt_waits_for_nothing(store: Store) -> None:
    store.deploy()
    claimed = store.suspended(seconds=60)
    with pytest.raises(StaleAttempt):
        store.wait(claimed, "sleep", "other", seconds=60)


def test_a_run_that_waits_for_nothing_fails(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    assert store.suspend(claimed, "never-asked-for").status == "failed"
    assert decode(store.run(claimed.run.id).error)["type"] == "NothingToWaitFor"


def test_a_waiting_run_is_canceled_at_once(store: Store) -> None:
    store.deploy()
    claimed = store.suspended("token")
    assert store.cancel(claimed.run.id).changed
    assert store.run(claimed.run.id).status == "canceled"
    with pytest.raises(Gone, match="ended"):
        store.complete_token(claimed.run.id, "token")
    assert store.run(claimed.run.id).status == "canceled"


def test_a_run_that_was_asked_to_stop_does_not_wait(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    store.wait(claimed, "sleep", seconds=60)
    store.cancel(claimed.run.id)
    assert store.suspend(claimed, "sleep").status == "canceled"
    store.now += 61
    store.sweep()
    assert store.run(claimed.run.id).status == "canceled"


def test_a_waiting_run_is_in_no_ones_way(store: Store) -> None:
    from tests.conformance.store import queue

    store.deploy(task_entry("greet", queue=queue(concurrency=1)))
    waiting = store.suspended("token")
    claimed = store.started()
    store.complete_token(waiting.run.id, "token")
    assert store.claim() == []
    store.complete(claimed)
    assert store.claim_one().run.id == waiting.run.id


def test_the_end_of_a_suspended_attempt_said_twice_counts_once(store: Store) -> None:
    store.deploy()
    claimed = store.suspended("token")
    assert store.suspend(claimed, "token").repeated
    store.complete_token(claimed.run.id, "token")
    assert store.suspend(claimed, "token").status == "queued"
    store.claim_one()


def test_a_lost_attempt_finds_its_waits_again(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    store.wait(claimed, "sleep", seconds=60)
    store.now += 20
    store.lose(claimed)
    again = store.claim_one()
    # counted from when it was first asked for
    assert store.wait(again, "sleep", seconds=60).row.due_at == store.now + 40


def test_a_ttl_concerns_the_first_start_only(store: Store) -> None:
    store.deploy()
    store.trigger(ttl=10)
    claimed = store.claim_one()
    store.start(claimed)
    store.wait(claimed, "token")
    store.suspend(claimed, "token")
    store.now += 100
    store.sweep()
    store.complete_token(claimed.run.id, "token")
    store.now += 100
    store.sweep()
    assert store.run(claimed.run.id).status == "queued"


def test_a_total_timeout_ends_a_waiting_run(store: Store) -> None:
    store.deploy(task_entry("greet", total_timeout=100.0))
    claimed = store.suspended("token")
    store.now += 101
    store.sweep()
    assert store.run(claimed.run.id).status == "timed_out"
    with pytest.raises(Gone):
        store.complete_token(claimed.run.id, "token")


def test_why_says_what_a_run_waits_for(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    store.wait(claimed, "event", "payment", "paid")
    store.wait(claimed, "token", "approval", timeout=3600)
    store.suspend(claimed, "payment", "approval")
    found = store.read(why.explain, claimed.run.id)
    assert (found.reason, found.until) == ("waiting", "2027-01-15T09:00:00.000Z")
    assert "a wait for a token (approval) or a wait for the event 'paid' (payment)" in found.message


def test_waits_stand_among_the_checkpoints_in_their_order(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    for key in ("a", "b"):
        store.write(checkpoints.put, claimed.attempt, claimed.token, key, Stored("1", None, 1))
        store.wait(claimed, "sleep", f"after-{key}", seconds=60)
    rows, following = store.read(checkpoints.listing, claimed.run.id)
    assert [(row.key, row.position) for row in rows] == [("a", 1), ("after-a", 2), ("b", 3), ("after-b", 4)]
    assert following is None
    page, following = store.read(checkpoints.listing, claimed.run.id, 0, 2)
    assert ([row.key for row in page], following) == (["a", "after-a"], 2)


def test_a_replay_takes_over_waits_that_are_over(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    store.wait(claimed, "token", "approval")
    store.complete_token(claimed.run.id, "approval", "yes")
    store.write(checkpoints.put, claimed.attempt, claimed.token, "pay", Stored("1", None, 1))
    store.wait(claimed, "token", "second")
    store.fail(claimed)

    def replay(key: str) -> Any:
        plan = store.read(plans.plan_replay, claimed.run.id, ReplayRequest(from_checkpoint=key), store.payloads)
        return store.write(triggers.create, plan, plan.stored or Stored()).run

    for key, count in (("approval", 0), ("pay", 1)):
        run = replay(key)
        again = store.claim_one()
        assert again.run.id == run.id
        assert [(w.key, w.value, w.token_hash) for w in again.waits] == [("approval", '"yes"', None)]
        assert len(again.checkpoints) == count
        store.complete(again)
    with pytest.raises(Invalid, match=r"'second' of .* is not over"):
        replay("second")


def test_no_wait_holds_up_another_ones_time(store: Store) -> None:
    store.deploy()
    claimed = [store.suspended(seconds=n + 1) for n in range(5)]
    store.now += 3
    store.sweep()
    states = [store.read(runs.get, c.run.id).status for c in claimed]
    assert states == ["queued"] * 3 + ["waiting"] * 2
    assert store.unlisted() == []
    assert len(store.read(lambda conn, now: waits.pending(conn, claimed[4].run.id))) == 1


def stopping(store: Store, how: str, number: int) -> None:
    """A run that is suspended over a wait while somebody resolves it goes on, whoever was first."""
    claimed = store.started()
    barrier = threading.Barrier(2)

    def ask() -> None:
        if how == "time":
            store.wait(claimed, "sleep", "w", seconds=0)
        else:
            store.wait(claimed, how, "w", f"e{number}" if how == "event" else None)

    def stop() -> None:
        if how != "event":
            ask()
        barrier.wait(10)
        if how == "event":
            ask()
        store.suspend(claimed, "w")

    def resolve() -> None:
        barrier.wait(10)
        if how == "event":
            emit(store, f"e{number}")
        elif how == "token":
            store.complete_token(claimed.run.id, "w")
        else:
            store.sweep()

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(stop), pool.submit(resolve)]:
            future.result(30)
    store.sweep()
    again = store.claim_one()
    assert again.run.id == claimed.run.id
    store.complete(again)


@pytest.mark.parametrize("how", ["event", "token", "time"])
def test_what_comes_while_a_run_stops_wakes_it(store: Store, how: str) -> None:
    """Stored, resolved and suspended over at once: a run that saw none of it would wait for ever."""
    store.deploy()
    for number in range(30):
        stopping(store, how, number)
