"""Idempotency keys: one run for a key, and a key that is free again for whoever never got a run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Row

from coordinator.foundation.errors import Conflict, Invalid, NotFound
from coordinator.runs import batches, idempotency, plans, triggers
from coordinator.storage.values import Stored
from coordinator.wire import BatchRequest, TriggerRequest
from tests.conformance.store import Store, queue, task_entry


def again(store: Store, **options: Any) -> tuple[str, bool]:
    run, created = store.try_trigger(payload={"n": 1}, idempotency_key="k", **options)
    return run.id, created


def test_a_run_that_expired_in_line_gives_its_key_back(store: Store) -> None:
    store.deploy()
    first, _ = again(store, ttl=10)
    store.now += 11
    store.sweep()
    assert store.run(first).status == "expired"
    second, created = again(store, ttl=10)
    assert (created, second != first) == (True, True)
    # the key is the new one's now
    assert again(store, ttl=10) == (second, False)


def test_a_run_that_was_skipped_gives_its_key_back(store: Store) -> None:
    store.deploy(task_entry("greet", queue=queue("one", concurrency=1, on_full="skip")))
    other = store.started()
    first, created = again(store)
    assert (store.run(first).status, created) == ("canceled", True)
    store.complete(other)
    second, created = again(store)
    assert (store.run(second).status, created) == ("queued", True)


def test_a_run_that_was_canceled_before_it_started_gives_its_key_back_whatever_the_body(store: Store) -> None:
    store.deploy()
    first, _ = again(store)
    store.cancel(first)
    run, created = store.try_trigger(payload={"n": 2}, idempotency_key="k")
    assert (created, run.id != first) == (True, True)


@pytest.mark.parametrize("end", ["queued", "running", "completed", "failed", "canceled"])
def test_the_key_of_a_run_that_was_taken_stays_with_it(store: Store, end: str) -> None:
    store.deploy()
    first, _ = again(store)
    if end != "queued":
        claimed = store.claim_one()
        store.start(claimed)
        if end == "completed":
            store.complete(claimed)
        elif end == "failed":
            store.fail(claimed)
        elif end == "canceled":
            store.cancel(first)
            store.lose(claimed, "canceled")
    assert store.run(first).status == end
    assert again(store) == (first, False)


def test_a_key_is_kept_for_its_time(store: Store) -> None:
    store.deploy()
    first, _ = again(store, idempotency_ttl="1h")
    store.now += 3599
    # another time for the key is no other body
    assert again(store, idempotency_ttl=10) == (first, False)
    store.now += 1
    second, created = again(store)
    assert created
    # the earlier one runs all the same
    assert {claimed.run.id for claimed in store.claim(most=5)} == {first, second}
    store.now += 10_000
    assert again(store) == (second, False)


def test_a_key_is_given_back_on_request(store: Store) -> None:
    store.deploy()
    first, _ = again(store)
    released = store.write(idempotency.release, first)
    assert (released.id, released.idempotency_key) == (first, None)
    second, created = again(store)
    assert (created, second != first) == (True, True)
    with pytest.raises(Conflict) as refused:
        store.write(idempotency.release, first)
    assert refused.value.code == "no_key"
    with pytest.raises(NotFound):
        store.write(idempotency.release, "run_none")


@pytest.mark.parametrize(("options", "word"), [({}, "give that too"), ({"idempotency_key": "k"}, "more than 0")])
def test_a_time_that_no_key_can_be_kept_is_refused(store: Store, options: dict[str, Any], word: str) -> None:
    store.deploy()
    with pytest.raises(Invalid, match=word) as refused:
        store.trigger(idempotency_ttl=0, **options)
    assert refused.value.fields[0].path == "idempotency_ttl"


@pytest.mark.parametrize("free_by", ["expired", "ttl"])
def test_triggers_that_race_for_a_free_key_make_one_run(store: Store, free_by: str) -> None:
    store.deploy()
    for n in range(10):
        key = f"k{n}"
        options: dict[str, Any] = {"ttl": 5} if free_by == "expired" else {"idempotency_ttl": 5}
        old = store.trigger(idempotency_key=key, **options)
        store.now += 6
        store.sweep()

        def trigger(_: int, key: str = key) -> tuple[Row[Any], bool]:
            body = TriggerRequest(payload={}, idempotency_key=key)
            plan = store.read(plans.plan, "greet", body, store.payloads)
            if not isinstance(plan, plans.Plan):
                return plan, False
            assert plan.payload is not None
            made = store.write(triggers.create, plan, Stored(plan.payload.text, None, 1))
            return made.run, made.created

        with ThreadPoolExecutor(6) as threads:
            found = list(threads.map(trigger, range(6)))
        assert sum(created for _, created in found) == 1
        (run,) = {run.id for run, _ in found}
        assert run != old.id


def batch(store: Store, ttl: float | None = None, n: int = 2) -> batches.Made:
    items = [TriggerRequest(payload={"n": i}, ttl=10) for i in range(n)]
    body = BatchRequest(items=items, idempotency_key="b", idempotency_ttl=ttl)
    planned = store.read(batches.plan, "greet", body, store.payloads)
    if isinstance(planned, batches.Made):
        return planned
    payloads = [Stored(p.payload.text) for p in planned.items if isinstance(p, plans.Plan) and p.payload]
    return store.write(batches.create, planned, payloads)


def test_a_batch_none_of_whose_runs_ran_gives_its_key_back(store: Store) -> None:
    store.deploy()
    first = batch(store)
    assert batch(store).runs == first.runs
    store.now += 11
    store.sweep()
    second = batch(store)
    assert second.created
    assert {run.id for run in second.runs}.isdisjoint(run.id for run in first.runs)
    store.claim_one()
    store.now += 11
    store.sweep()
    # one of them was taken
    assert not batch(store).created


def test_a_batch_keeps_its_key_for_its_time(store: Store) -> None:
    store.deploy()
    first = batch(store, ttl=100)
    store.claim(most=2)
    store.now += 99
    assert not batch(store, ttl=100).created
    store.now += 1
    second = batch(store, ttl=100)
    assert second.created
    assert {run.id for run in second.runs}.isdisjoint(run.id for run in first.runs)
