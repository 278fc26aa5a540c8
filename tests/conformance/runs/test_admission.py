"""What a full queue says to a new run; concurrency keys out of payloads; debounce; batches."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select

from coordinator.foundation.errors import Conflict, Invalid, NotFound, RateLimited
from coordinator.runs import batches, plans, triggers
from coordinator.runs.plans import Plan
from coordinator.storage.tables import runs as table
from coordinator.storage.values import Stored
from coordinator.wire import BatchRequest, ReplayRequest
from tests.conformance.store import MIB, Store, queue, task_entry


def deploy(store: Store, on_full: str, **limits: Any) -> None:
    limits = limits or {"concurrency": 1}
    store.deploy(task_entry("greet", queue=queue(on_full=on_full, **limits), memory=64 * MIB))


def statuses(store: Store, *made: Any) -> list[str]:
    return [store.run(run.id).status for run in made]


# ---------------------------------------------------------------- a full queue


def test_skip_stores_the_run_as_canceled_and_says_why(store: Store) -> None:
    deploy(store, "skip")
    first = store.trigger()
    skipped = store.trigger(ttl=60, delay=0)
    assert (skipped.status, skipped.finished_at) == ("canceled", store.now)
    error = json.loads(skipped.error)
    assert (error["type"], error["reason"]) == ("Skipped", "canceled")
    assert error["message"] == "skipped: the queue 'shared' is full, with 1 of 1 runs queued or running"
    claimed = store.claim_one()
    assert store.trigger().status == "canceled"
    store.complete(claimed)
    assert store.trigger().status == "queued"
    assert first.id == claimed.run.id
    store.now += 100
    store.sweep()
    assert store.run(skipped.id).status == "canceled"


def test_skip_for_each_key(store: Store) -> None:
    deploy(store, "skip", per_key=1)
    keys = ("a", "b", "a", None, None)
    assert [store.trigger(concurrency_key=key).status for key in keys] == [
        "queued", "queued", "canceled", "queued", "queued",
    ]  # fmt: skip


def test_keep_newest_cancels_the_older_queued_ones(store: Store) -> None:
    deploy(store, "keep_newest", per_key=1)
    running = store.started(concurrency_key="a")
    older, other = store.trigger(concurrency_key="a"), store.trigger(concurrency_key="b")
    newest = store.trigger(concurrency_key="a")
    assert statuses(store, running.run, older, other, newest) == ["running", "canceled", "queued", "queued"]
    assert f"for the newer run {newest.id}" in store.run(older.id).error
    assert store.run(running.run.id).cancel_requested_at is None


def test_cancel_running_makes_room_for_the_new_one(store: Store) -> None:
    deploy(store, "cancel_running", per_key=1)
    running = store.started(concurrency_key="a")
    other = store.started(concurrency_key="b")
    plan = store.read(plans.plan, "greet", _body(concurrency_key="a"), store.payloads)
    assert isinstance(plan, Plan)
    made = store.write(triggers.create, plan, Stored("{}"))
    assert {f"run:{running.run.id}", "commands:r1"} <= made.topics
    assert store.run(running.run.id).cancel_requested_at == store.now
    assert store.run(other.run.id).cancel_requested_at is None
    # the one that was asked to stop holds its place until it has ended
    assert store.claim(most=5) == []
    newer = store.trigger(concurrency_key="a")
    assert statuses(store, made.run, newer) == ["canceled", "queued"]
    store.lose(running, "canceled")
    assert store.claim_one().run.id == newer.id


def test_a_limit_of_several_keeps_as_many(store: Store) -> None:
    deploy(store, "keep_newest", concurrency=3)
    store.started()
    made = [store.trigger() for _ in range(4)]
    assert statuses(store, *made) == ["canceled", "canceled", "queued", "queued"]


def test_a_delayed_run_meets_the_full_queue_when_it_is_due(store: Store) -> None:
    deploy(store, "skip")
    delayed = store.trigger(delay=10)
    assert delayed.status == "delayed"
    store.trigger()
    store.now += 10
    store.sweep()
    assert statuses(store, delayed) == ["canceled"]
    assert json.loads(store.run(delayed.id).error)["message"].startswith("skipped: ")


def test_a_delayed_run_takes_the_place_of_older_ones_when_it_is_due(store: Store) -> None:
    deploy(store, "keep_newest")
    delayed = store.trigger(delay=10)
    queued = store.trigger()
    store.now += 10
    store.sweep()
    assert statuses(store, delayed, queued) == ["queued", "canceled"]


def test_a_retry_is_not_let_in_anew(store: Store) -> None:
    retry = {"max_attempts": 2, "factor": 1, "min_delay": 5, "max_delay": 5, "jitter": False}
    store.deploy(task_entry("greet", queue=queue(concurrency=1, on_full="skip"), retry=retry))
    claimed = store.started()
    store.fail(claimed)
    other = store.trigger()
    store.now += 5
    store.sweep()
    assert statuses(store, claimed.run, other) == ["queued", "queued"]


@pytest.mark.parametrize("on_full", ["skip", "keep_newest"])
def test_triggers_that_race_find_one_place(store: Store, on_full: str) -> None:
    deploy(store, on_full)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: store.trigger(), range(24)))
    assert sorted(statuses(store, *made)) == ["canceled"] * 23 + ["queued"]


def test_refused_triggers_that_race_keep_to_the_rate(store: Store) -> None:
    store.deploy(task_entry("greet", queue=queue(rate={"limit": 5, "period": 60.0}, rate_excess="refuse")))

    def accepted(n: int) -> int:
        try:
            store.trigger()
        except RateLimited:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(accepted, range(24))) == 5


# ---------------------------------------------------------------- concurrency keys


@pytest.mark.parametrize(
    ("payload", "key"),
    [
        ({"customer": {"id": "c1"}}, "c1"),
        ({"customer": {"id": 7}}, "7"),
        ({"customer": {"id": True}}, "true"),
        ({"customer": {"id": None}}, None),
        ({"customer": {"id": ""}}, None),
        ({"customer": {}}, None),
        ({"customer": "c1"}, None),
        ({}, None),
    ],
)
def test_a_key_out_of_the_payload(store: Store, payload: dict[str, Any], key: str | None) -> None:
    store.deploy(task_entry("greet", concurrency_key="customer.id"))
    assert store.trigger(payload=payload).concurrency_key == key
    assert store.trigger(payload=payload, concurrency_key="given").concurrency_key == "given"


@pytest.mark.parametrize(("value", "words"), [({}, "is an object"), ([1], "is a list"), ("x" * 513, "at most 512")])
def test_what_can_be_no_key_is_refused(store: Store, value: Any, words: str) -> None:
    store.deploy(task_entry("greet", concurrency_key="customer.id"))
    with pytest.raises(Invalid, match=words) as refused:
        store.trigger(payload={"customer": {"id": value}})
    assert refused.value.fields[0].path == "customer.id"


def test_a_replay_with_another_payload_has_its_key(store: Store) -> None:
    store.deploy(task_entry("greet", concurrency_key="to"))
    run = store.trigger(payload={"to": "a"})
    same = store.read(plans.plan_replay, run.id, ReplayRequest(), store.payloads)
    other = store.read(plans.plan_replay, run.id, ReplayRequest(payload={"to": "b"}), store.payloads)
    assert (same.concurrency_key, other.concurrency_key) == ("a", "b")


# ---------------------------------------------------------------- debounce


def test_later_triggers_replace_the_payload_and_put_it_off(store: Store) -> None:
    store.deploy()
    first, created = store.try_trigger(payload={"n": 1}, debounce={"key": "k", "delay": "5s"}, tags=["a"])
    assert (created, first.status, first.due_at) == (True, "delayed", store.now + 5)
    store.now += 3
    second, created = store.try_trigger(payload={"n": 2}, debounce={"key": "k", "delay": "5s"}, priority=3)
    assert (created, second.id, second.payload) == (False, first.id, '{"n":2}')
    assert (second.due_at, second.tags, second.priority) == (store.now + 5, "[]", 3)
    assert store.trigger(debounce={"key": "other", "delay": "5s"}).id != first.id
    store.now += 5
    store.sweep()
    assert store.claim_one().run.id == first.id
    assert store.trigger(debounce={"key": "k", "delay": "5s"}).id != first.id


def test_a_debounced_run_does_happen(store: Store) -> None:
    store.deploy()
    run = store.trigger(debounce={"key": "k", "delay": 5})
    began = store.now
    while store.run(run.id).status == "delayed":
        store.now += 4
        store.trigger(debounce={"key": "k", "delay": 5})
        store.sweep()
    assert store.now - began <= 52
    assert store.now - began >= 48
    soon = store.trigger(debounce={"key": "soon", "delay": 5, "max_delay": 6})
    store.now += 4
    assert store.trigger(debounce={"key": "soon", "delay": 5, "max_delay": 6}).due_at == soon.created_at + 6


def test_a_debounced_run_follows_the_current_deployment(store: Store) -> None:
    store.deploy()
    store.trigger(debounce={"key": "k", "delay": 5})
    newer = store.deploy(task_entry("greet", memory=128 * MIB))
    run = store.trigger(debounce={"key": "k", "delay": 5})
    assert (run.deployment_id, run.memory) == (newer, 128 * MIB)
    store.now += 5
    store.sweep()
    assert store.claim_one(memory=128 * MIB).run.id == run.id


def test_a_debounced_run_that_was_canceled_is_over(store: Store) -> None:
    store.deploy()
    run = store.trigger(debounce={"key": "k", "delay": 5})
    store.cancel(run.id)
    assert store.trigger(debounce={"key": "k", "delay": 5}).id != run.id


def test_a_retry_of_a_debounced_run_is_not_replaced(store: Store) -> None:
    retry = {"max_attempts": 2, "factor": 1, "min_delay": 60, "max_delay": 60, "jitter": False}
    store.deploy(task_entry("greet", retry=retry))
    run = store.trigger(debounce={"key": "k", "delay": 5})
    store.now += 5
    store.sweep()
    store.fail(store.claim_one())
    assert store.run(run.id).status == "delayed"
    assert store.trigger(debounce={"key": "k", "delay": 5}).id != run.id


def test_debounced_triggers_that_race_make_one_run(store: Store) -> None:
    store.deploy()
    with ThreadPoolExecutor(8) as pool:
        made = list(
            pool.map(lambda n: store.trigger(payload={"n": n}, debounce={"key": "k", "delay": 5}), range(24))
        )
    assert len({run.id for run in made}) == 1
    assert store.read(lambda conn, now: conn.scalar(select(func.count()).select_from(table))) == 1


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"debounce": {"key": "k", "delay": 0}}, "debounce.delay"),
        ({"debounce": {"key": "k", "delay": "400d"}}, "debounce.delay"),
        ({"debounce": {"key": "k", "delay": 5, "max_delay": 4}}, "debounce.max_delay"),
        ({"debounce": {"key": "k", "delay": 5}, "delay": 1}, "delay"),
        ({"debounce": {"key": "k", "delay": 5}, "idempotency_key": "i"}, "idempotency_key"),
    ],
)
def test_a_debounce_that_makes_no_sense_is_refused(store: Store, body: dict[str, Any], path: str) -> None:
    store.deploy()
    with pytest.raises(Invalid) as refused:
        store.trigger(**body)
    assert refused.value.fields[0].path == path


# ---------------------------------------------------------------- batches


def _body(**options: Any) -> Any:
    return BatchRequest(items=[options]).items[0]


def batch(store: Store, *items: dict[str, Any], task: str = "greet", key: str | None = None) -> batches.Made:
    body = BatchRequest(items=list(items), idempotency_key=key)
    planned = store.read(batches.plan, task, body, store.payloads)
    if isinstance(planned, batches.Made):
        return planned
    payloads = [Stored(i.payload.text) for i in planned.items if isinstance(i, Plan) and i.payload is not None]
    return store.write(batches.create, planned, payloads)


def count(store: Store) -> int:
    return store.read(lambda conn, now: conn.scalar(select(func.count()).select_from(table)) or 0)


def test_a_batch_makes_its_runs_in_order_each_with_its_options(store: Store) -> None:
    store.deploy(task_entry("greet", queue=queue(concurrency=2), concurrency_key="n"))
    items = [{"payload": {"n": n}, "tags": [f"t{n}"], "priority": n} for n in range(3)] + [{"delay": "1h"}]
    made = batch(store, *items)
    assert made.created
    assert [run.payload for run in made.runs] == ['{"n":0}', '{"n":1}', '{"n":2}', "{}"]
    assert [run.priority for run in made.runs] == [0, 1, 2, 0]
    assert [run.concurrency_key for run in made.runs] == ["0", "1", "2", None]
    assert [run.status for run in made.runs] == ["queued"] * 3 + ["delayed"]
    assert made.topics == {"claims", "due"}
    assert store.unlisted() == []
    assert len(store.claim(most=10)) == 2


def test_a_batch_of_a_thousand_is_one_transaction_of_few_statements(store: Store) -> None:
    from sqlalchemy import event

    store.deploy()
    seen: list[str] = []
    engine = store.database._writer
    listener = lambda conn, cursor, statement, *rest: seen.append(statement)  # noqa: E731
    event.listen(engine, "before_cursor_execute", listener)
    made = batch(store, *[{"payload": {"n": n}} for n in range(1000)])
    event.remove(engine, "before_cursor_execute", listener)
    assert len({run.id for run in made.runs}) == 1000
    assert len([statement for statement in seen if statement.startswith(("INSERT", "UPDATE"))]) < 30


def test_a_batch_with_a_bad_item_makes_nothing_and_names_it(store: Store) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}
    store.deploy(task_entry("greet", schema))
    with pytest.raises(Invalid, match="nothing was triggered: ") as refused:
        batch(store, {"payload": {"n": 1}}, {"payload": {"n": "x"}}, {"payload": {"m": 1}}, {"memory": "1m"})
    assert [field.path for field in refused.value.fields] == ["items[1].n", "items[2].m", "items[3].memory"]
    with pytest.raises(NotFound, match=r"items\[1\]: no deployment '20200101.1'") as missing:
        batch(store, {}, {"version": "20200101.1"})
    assert missing.value.fields[0].path == "items[1]"
    assert count(store) == 0


def test_a_batch_that_its_queue_refuses_makes_nothing(store: Store) -> None:
    store.deploy(task_entry("greet", queue=queue(rate={"limit": 2, "period": 60.0}, rate_excess="refuse")))
    with pytest.raises(RateLimited, match=r"nothing was triggered: items\[2\]: the queue 'shared' takes 2/m"):
        batch(store, {}, {}, {}, {})
    assert count(store) == 0
    assert len(batch(store, {}, {}).runs) == 2


def test_a_batch_in_a_queue_that_skips(store: Store) -> None:
    deploy(store, "skip", concurrency=2)
    assert [run.status for run in batch(store, {}, {}, {}).runs] == ["queued", "queued", "canceled"]


def test_a_batch_is_idempotent_as_a_whole(store: Store) -> None:
    store.deploy()
    first = batch(store, {"payload": {"n": 1}}, {"payload": {"n": 2}}, key="k")
    again = batch(store, {"payload": {"n": 1}}, {"payload": {"n": 2}}, key="k")
    assert (first.created, again.created) == (True, False)
    assert [run.id for run in again.runs] == [run.id for run in first.runs]
    with pytest.raises(Conflict, match="used for another batch") as refused:
        batch(store, {"payload": {"n": 1}}, key="k")
    assert refused.value.code == "idempotency_conflict"
    assert batch(store, {}, key="other").created


def test_items_may_have_idempotency_keys_of_their_own(store: Store) -> None:
    store.deploy()
    there = store.trigger(idempotency_key="i")
    made = batch(store, {}, {"idempotency_key": "i"}, {"idempotency_key": "j"})
    assert made.runs[1].id == there.id
    assert count(store) == 3
    with pytest.raises(Invalid) as refused:
        batch(store, {"idempotency_key": "x"}, {"idempotency_key": "x"})
    assert refused.value.fields[0].path == "items[1].idempotency_key"


def test_batches_that_race_under_one_key_make_it_once(store: Store) -> None:
    store.deploy()
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda _: batch(store, {}, {}, {}, key="k"), range(12)))
    assert len({tuple(run.id for run in one.runs) for one in made}) == 1
    assert [one.created for one in made].count(True) == 1
    assert count(store) == 3
