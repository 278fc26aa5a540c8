"""Triggers: what makes a run, what makes none, and what is said about it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from coordinator.attempts import checkpoints
from coordinator.foundation.errors import Conflict, Invalid, NotFound, TooLarge
from coordinator.runs import plans, runs, triggers
from coordinator.storage.values import Stored
from coordinator.wire import ReplayRequest
from tests.conformance.store import GIB, MIB, Store, task_entry

SCHEMA = {
    "type": "object",
    "properties": {"order_id": {"type": "string"}, "qty": {"type": "integer"}},
    "required": ["order_id"],
    "additionalProperties": False,
}


def test_a_run_begins_queued_on_the_current_deployment(store: Store) -> None:
    store.deploy(task_entry("greet", priority=3))
    run = store.trigger(payload={"name": "Ann"}, tags=["a", "b", "a"])
    assert (run.status, run.project, run.task, run.attempts) == ("queued", "orders", "greet", 0)
    assert (run.priority, run.memory, run.tags) == (3, 512 * MIB, '["a","b"]')
    assert run.payload == '{"name":"Ann"}'
    # what is looked up has what its latest attempt knows as well: there is none
    assert {name: getattr(store.run(run.id), name) for name in run._fields} == run._asdict()
    assert store.run(run.id).attempt_cause is None


def test_a_priority_of_zero_is_not_the_tasks_own(store: Store) -> None:
    store.deploy(task_entry("greet", priority=3))
    assert store.trigger(priority=0).priority == 0


def test_the_same_key_and_body_is_the_same_run(store: Store) -> None:
    store.deploy()
    first, made = store.try_trigger(payload={"n": 1}, idempotency_key="k", delay="10s")
    again, made_again = store.try_trigger(payload={"n": 1}, idempotency_key="k", delay=10)
    assert (made, made_again) == (True, False)
    assert again.id == first.id


def test_a_key_is_answered_even_when_the_schema_has_changed(store: Store) -> None:
    store.deploy(task_entry("greet"))
    first = store.trigger(payload={"n": 1}, idempotency_key="k")
    store.deploy(task_entry("greet", SCHEMA))
    assert store.trigger(payload={"n": 1}, idempotency_key="k").id == first.id


@pytest.mark.parametrize("other", [{"payload": {"n": 2}}, {"payload": {"n": 1}, "priority": 5}])
def test_the_same_key_with_another_body_is_a_conflict(store: Store, other: dict[str, object]) -> None:
    store.deploy()
    first = store.trigger(payload={"n": 1}, idempotency_key="k")
    with pytest.raises(Conflict, match=first.id) as refused:
        store.trigger(idempotency_key="k", **other)  # type: ignore[arg-type]
    assert refused.value.code == "idempotency_conflict"


def test_a_key_belongs_to_its_task(store: Store) -> None:
    store.deploy(task_entry("greet"), task_entry("part"))
    assert store.trigger("greet", idempotency_key="k").id != store.trigger("part", idempotency_key="k").id


def test_triggers_that_race_with_one_key_make_one_run(store: Store) -> None:
    store.deploy()
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: store.try_trigger(payload={"n": 1}, idempotency_key="k"), range(24)))
    assert len({run.id for run, _ in made}) == 1
    assert sum(created for _, created in made) == 1
    assert len(store.read(runs.listing, runs.Filter())[0]) == 1


def test_every_wrong_field_is_named(store: Store) -> None:
    store.deploy(task_entry("greet", SCHEMA))
    with pytest.raises(Invalid) as refused:
        store.trigger(payload={"qty": "x", "colour": 1})
    found = {field.path: field.message for field in refused.value.fields}
    assert found == {
        "order_id": "missing",
        "qty": "'x' is not an integer",
        "colour": "unknown; known are order_id, qty",
    }
    assert store.read(runs.listing, runs.Filter())[0] == []


def test_a_payload_above_the_limit_is_too_large(store: Store) -> None:
    store.deploy()
    with pytest.raises(TooLarge, match="payload: 10485767 bytes"):
        store.trigger(payload={"x": "a" * (10 * MIB - 1)})


def test_an_unknown_task_names_the_near_ones(store: Store) -> None:
    store.deploy(task_entry("process-order"), task_entry("ship"))
    with pytest.raises(NotFound, match="did you mean 'process-order'") as refused:
        store.trigger("proces-order")
    assert refused.value.code == "unknown_task"


def test_before_any_deployment_that_is_what_is_said(store: Store) -> None:
    with pytest.raises(NotFound, match="nothing is deployed yet"):
        store.trigger("greet")


def test_a_task_of_two_projects_needs_its_project(store: Store) -> None:
    store.deploy(project="orders")
    store.deploy(project="shop")
    with pytest.raises(Conflict, match="orders/greet or shop/greet") as refused:
        store.trigger("greet")
    assert refused.value.code == "ambiguous_task"
    assert store.trigger("shop/greet").project == "shop"


def test_a_version_may_be_named(store: Store) -> None:
    first = store.deploy()
    store.deploy()
    current = store.trigger()
    older = store.trigger(version=current.version.replace(".2", ".1"))
    assert (current.version.split(".")[1], older.version.split(".")[1]) == ("2", "1")
    assert older.deployment_id == first
    with pytest.raises(NotFound, match="no deployment '20200101") as refused:
        store.trigger(version="20200101.1")
    assert refused.value.code == "unknown_version"


def test_memory_is_held_to_what_a_runner_gives(store: Store) -> None:
    store.deploy()
    store.heartbeat(task_memory=2 * GIB)
    assert store.trigger(memory="2g").memory == 2 * GIB
    with pytest.raises(Invalid, match=f"the largest is {2 * GIB}"):
        store.trigger(memory="3g")
    with pytest.raises(Invalid, match="at least"):
        store.trigger(memory="2m")


def test_a_delayed_run_waits(store: Store) -> None:
    store.deploy()
    run = store.trigger(delay="10s")
    assert (run.status, run.due_at) == ("delayed", store.now + 10)
    assert store.claim() == []


def test_a_replay_begins_anew_on_the_current_deployment(store: Store) -> None:
    store.deploy()
    claimed = store.started(payload={"n": 1}, tags=["x"], priority=4)
    store.fail(claimed)
    newer = store.deploy()
    plan = store.read(plans.plan_replay, claimed.run.id, ReplayRequest(), store.payloads)
    assert plan.stored is not None
    run, made, _ = store.write(triggers.create, plan, plan.stored)
    assert made
    assert run.id != claimed.run.id
    assert (run.deployment_id, run.payload, run.tags, run.priority) == (newer, '{"n":1}', '["x"]', 4)


def test_a_replay_from_a_checkpoint_takes_those_up_to_it(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    for key in ("fetch", "charge", "ship"):
        store.write(checkpoints.put, claimed.attempt, claimed.token, key, Stored(f'"{key}"', None, 8), 0.0)
    store.fail(claimed)
    more = store.read(plans.plan_replay, claimed.run.id, ReplayRequest(memory="1g"), store.payloads)
    assert more.memory == 1024**3
    with pytest.raises(Invalid):
        store.read(plans.plan_replay, claimed.run.id, ReplayRequest(memory="1m"), store.payloads)
    body = ReplayRequest(from_checkpoint="charge")
    plan = store.read(plans.plan_replay, claimed.run.id, body, store.payloads)
    run, _, _ = store.write(triggers.create, plan, plan.stored or Stored())
    copied = store.read(checkpoints.listing, run.id)[0]
    assert [row.key for row in copied] == ["fetch", "charge"]
    assert [row.begun_at for row in copied] == [store.now, store.now]
    with pytest.raises(Invalid, match="has no checkpoint and no wait 'refund'"):
        store.read(plans.plan_replay, claimed.run.id, ReplayRequest(from_checkpoint="refund"), store.payloads)


def test_listing_filters_and_pages(store: Store) -> None:
    store.deploy(task_entry("greet"), task_entry("part"))
    made = [store.trigger("greet" if n % 2 else "part", tags=[f"t{n % 3}"]).id for n in range(6)]
    assert len(set(made)) == 6
    newest = sorted(made, reverse=True)

    def ids(**wanted: object) -> list[str]:
        return [row.id for row in store.read(runs.listing, runs.Filter(**wanted))[0]]  # type: ignore[arg-type]

    assert ids() == newest
    assert set(ids(task="part")) == {made[0], made[2], made[4]}
    assert set(ids(tags=("t1",))) == {made[1], made[4]}
    assert ids(project="shop") == []
    assert ids(statuses=("running",)) == []
    assert ids(since=store.now + 1) == []
    first, cursor = store.read(runs.listing, runs.Filter(limit=4))
    rest, end = store.read(runs.listing, runs.Filter(limit=4, cursor=cursor))
    assert [row.id for row in [*first, *rest]] == newest
    assert end is None


@pytest.mark.parametrize("ttl", [0, "400d"])
def test_a_time_to_live_that_is_none_is_refused(store: Store, ttl: object) -> None:
    store.deploy()
    with pytest.raises(Invalid, match=r"ttl: .* give more than 0, and at most 366 days"):
        store.trigger(ttl=ttl)


def test_a_time_to_live_shorter_than_the_delay_counts_from_its_end(store: Store) -> None:
    store.deploy()
    run = store.trigger(delay=60, ttl=5)
    store.now += 60
    store.sweep()
    assert store.run(run.id).status == "queued"
    store.now += 5
    store.sweep()
    assert store.run(run.id).status == "expired"
