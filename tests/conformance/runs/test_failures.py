"""Failing for good: the handler is told once, the dead-letter list knows, and the whole time is kept."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.foundation.errors import Invalid, NotFound
from coordinator.foundation.limits import MAX_TOLD
from coordinator.runs import failures, plans, runs, triggers
from coordinator.runs.runs import Filter
from coordinator.storage.values import Stored, decode
from coordinator.tasks.index import read_index
from coordinator.wire import ReplayRequest
from tests.conformance.store import Store, queue, task_entry

HANDLER = {"type": "object", "properties": {"run": {"type": "object"}}, "required": ["run"]}
RETRY = {"max_attempts": 2, "factor": 1, "min_delay": 2, "max_delay": 2, "jitter": False}


def with_handler(store: Store, **options: Any) -> None:
    store.deploy(
        task_entry("greet", on_failure="notify", **options),
        task_entry("notify", HANDLER, on_failure="greet"),
    )


def told(store: Store) -> list[Any]:
    """The handler's runs."""
    found, _ = store.read(runs.listing, Filter(task="notify"))
    return found


def dead(store: Store) -> list[str]:
    found, _ = store.read(runs.listing, Filter(dead_letter=True))
    return [run.id for run in found]


def replayed(store: Store, run: str, **body: Any) -> Any:
    planned = store.read(plans.plan_replay, run, ReplayRequest(**body), store.payloads)
    return store.write(triggers.create, planned, planned.stored or Stored(planned.payload.text)).run


# ---------------------------------------------------------------- on_failure


def test_the_handler_is_given_the_failed_run_when_its_retries_are_used_up(store: Store) -> None:
    with_handler(store, retry=RETRY)
    run = store.trigger(payload={"n": 1}, tags=["red"])
    for attempt in (1, 2):
        claimed = store.claim_one()
        store.start(claimed)
        assert told(store) == []
        ended = store.fail(claimed)
        if attempt == 1:
            store.now += 2
            store.sweep()
    assert ended.topics == {"claims"}
    (handler,) = told(store)
    given = decode(handler.payload)["run"]
    assert (given["id"], given["status"], given["payload"], given["attempts"]) == (run.id, "failed", {"n": 1}, 2)
    assert given["error"]["message"] == "no"
    assert (handler.status, handler.version, decode(handler.tags)) == ("queued", run.version, ["red"])
    assert (handler.origin, handler.origin_id) == ("failure", run.id)
    assert store.unlisted() == []
    assert store.claim_one().run.id == handler.id


@pytest.mark.parametrize(
    ("how", "count"), [("timeout", 1), ("lost", 0), ("cancel", 0), ("complete", 0), ("expire", 0)]
)
def test_only_what_failed_for_good_is_told(store: Store, how: str, count: int) -> None:
    with_handler(store)
    if how == "expire":
        store.trigger(ttl=1)
        store.now += 2
        store.sweep()
    else:
        claimed = store.started()
        if how == "timeout":
            store.fail(claimed, "timeout")
        elif how == "lost":
            store.lose(claimed)
        elif how == "cancel":
            store.cancel(claimed.run.id)
            store.lose(claimed, "canceled")
        else:
            store.complete(claimed)
    assert len(told(store)) == count
    assert len(dead(store)) == count


def test_a_run_the_sweep_gave_up_is_told_too(store: Store) -> None:
    with_handler(store)
    store.started()
    for _ in range(6):
        store.now += 60
        store.sweep()
        store.now += 60
        store.sweep()
        store.claim()
    assert [decode(run.payload)["run"]["error"]["reason"] for run in told(store)] == ["lost"]
    assert store.unlisted() == []


def test_a_handler_that_fails_is_told_to_nobody(store: Store) -> None:
    with_handler(store)
    store.fail(store.started())
    claimed = store.claim_one()
    store.start(claimed)
    assert store.fail(claimed).topics == frozenset()
    found, _ = store.read(runs.listing, Filter())
    assert len(found) == 2


def test_a_handler_whose_queue_refuses_does_not_hold_up_the_end(store: Store) -> None:
    limits = queue("few", rate={"limit": 1, "period": 60}, rate_excess="refuse")
    store.deploy(task_entry("greet", on_failure="notify"), task_entry("notify", HANDLER, queue=limits))
    first, second = store.started(), store.started()
    assert [store.fail(claimed).status for claimed in (first, second)] == ["failed", "failed"]
    assert len(told(store)) == 1


def test_a_payload_too_large_for_the_handler_is_left_out(store: Store) -> None:
    with_handler(store)
    run = store.trigger(payload={"text": "x" * (MAX_TOLD - 500)})
    claimed = store.claim_one()
    store.start(claimed)
    store.fail(claimed)
    (handler,) = told(store)
    given = decode(handler.payload)["run"]
    assert (given["id"], given["payload"]) == (run.id, None)


@pytest.mark.parametrize(
    ("on_failure", "schema", "words"),
    [
        ("notfy", HANDLER, "no task 'notfy' in the project; did you mean 'notify'"),
        ("greet", HANDLER, "is the task itself"),
        ("notify", {**HANDLER, "required": ["run", "channel"]}, "nothing fills the parameter 'channel'"),
    ],
)
def test_a_handler_that_could_not_be_told_is_refused_at_deploy(
    on_failure: str, schema: dict[str, Any], words: str
) -> None:
    tasks = [task_entry("greet", on_failure=on_failure), task_entry("notify", schema)]
    with pytest.raises(Invalid, match=f"greet.on_failure: .*{words}"):
        read_index({"sdk": "0.1.0", "python": "3.11.2", "tasks": tasks})


# ---------------------------------------------------------------- the dead-letter list


def test_a_dead_letter_stays_until_it_is_replayed_or_dismissed(store: Store) -> None:
    store.deploy()
    first, second = store.started(), store.started()
    for claimed in (first, second):
        store.fail(claimed)
    assert sorted(dead(store)) == sorted([first.run.id, second.run.id])
    again = replayed(store, first.run.id)
    assert (again.origin, again.origin_id) == ("replay", first.run.id)
    assert dead(store) == [second.run.id]
    store.write(failures.dismiss, second.run.id)
    assert dead(store) == []
    assert store.run(second.run.id).status == "failed"
    with pytest.raises(NotFound):
        store.write(failures.dismiss, "run_of_nobody")


# ---------------------------------------------------------------- three clocks


def test_the_whole_time_includes_line_retries_and_delays_but_not_the_triggers_delay(store: Store) -> None:
    with_handler(store, total_timeout=10, retry={**RETRY, "max_attempts": 5, "min_delay": 6, "max_delay": 6})
    run = store.trigger(delay=100)
    assert run.deadline_at == store.now + 110
    store.now += 100
    store.sweep()
    store.now += 2
    claimed = store.claim_one()
    assert claimed.total_left == 8
    store.start(claimed)
    # six seconds of delay fit, with two to spare
    assert store.fail(claimed).status == "delayed"
    store.now += 6
    store.sweep()
    claimed = store.claim_one()
    assert claimed.total_left == 2
    store.start(claimed)
    # the next attempt would begin after the end
    assert store.fail(claimed).status == "failed"
    assert len(told(store)) == 1
    assert store.run(run.id).deadline_at is None


def test_a_run_whose_time_is_over_while_it_waits_times_out(store: Store) -> None:
    with_handler(store, total_timeout=10)
    run = store.trigger()
    assert store.sweep().next_due == 10
    store.now += 10
    assert f"run:{run.id}" in store.sweep().topics
    after = store.run(run.id)
    assert (after.status, after.finished_at, decode(after.error)["reason"]) == ("timed_out", store.now, "timeout")
    assert dead(store) == [run.id]
    assert len(told(store)) == 1
    assert store.unlisted() == []
    # it has left the line
    assert store.claim_one().run.task == "notify"


def test_a_lost_attempt_is_not_made_again_after_the_end(store: Store) -> None:
    store.deploy(task_entry("greet", total_timeout=10))
    claimed = store.started()
    store.now += 10
    assert store.lose(claimed).status == "timed_out"
