"""Child runs: made once with their parent's wait, and the parent goes on when the last of them has ended."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from coordinator.attempts.claims import Claimed
from coordinator.foundation.errors import Conflict, Invalid, RateLimited, Refused, StorageUnavailable, TooLarge
from coordinator.foundation.limits import MAX_RUN_DEPTH
from coordinator.runs import children, runs
from coordinator.storage.tables import runs as table
from coordinator.storage.tables import waits
from coordinator.storage.values import decode
from tests.conformance.store import Store, queue, task_entry

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


def deploy(store: Store, **options: Any) -> None:
    store.deploy(task_entry("greet"), task_entry("square", SCHEMA, **options))


def named(store: Store, claimed: Claimed, key: str) -> list[str]:
    """The children of a wait."""
    text = store.read(
        lambda conn, now: conn.scalar(
            select(waits.c.runs).where(waits.c.run_id == claimed.run.id, waits.c.key == key)
        )
    )
    return list(decode(text))


def items(*numbers: int) -> list[dict[str, Any]]:
    return [{"payload": {"n": n}} for n in numbers]


def test_a_child_is_made_with_its_wait_and_its_end_wakes_the_parent(store: Store) -> None:
    deploy(store)
    parent = store.started()
    called = store.wait(parent, "run", "child", "square", payload={"n": 3})
    assert (called.row.status, called.topics) == ("pending", {"claims"})
    assert store.suspend(parent, "child").status == "waiting"
    (name,) = named(store, parent, "child")
    child = store.run(name)
    assert (child.parent, child.parent_key, child.root, child.depth) == (parent.run.id, "child", parent.run.id, 1)
    assert (child.trace_id, child.version, child.origin) == (parent.run.trace_id, parent.run.version, "run")
    claimed = store.claim_one()
    store.start(claimed)
    ended = store.complete(claimed, 9)
    assert ended.topics >= {f"run:{parent.run.id}", "claims"}
    again = store.claim_one()
    assert again.run.id == parent.run.id
    assert store.wait(again, "run", "child", "square", payload={"n": 3}).row.status == "done"
    (told,) = store.read(children.ends, [name])
    assert (told.status, told.result) == ("completed", "9")


def test_a_run_that_comes_to_it_again_makes_no_other_child(store: Store) -> None:
    deploy(store)
    parent = store.started()
    for _ in range(3):
        store.wait(parent, "trigger", "t", "square", payload={"n": 1})
        store.wait(parent, "batch_trigger", "b", "square", items=items(1, 2))
    store.lose(parent)
    again = store.claim_one()
    store.wait(again, "trigger", "t", "square", payload={"n": 1})
    assert [w.status for w in again.waits] == ["done", "done"]
    assert len(store.read(lambda conn, now: conn.execute(select(table.c.id)).all())) == 4


def test_another_child_under_a_key_is_refused_with_both_named(store: Store) -> None:
    deploy(store)
    parent = store.started()
    store.wait(parent, "run", "k", "square", payload={"n": 1})
    with pytest.raises(Conflict, match=r"a wait for a run of 'square'.*a wait for a run of 'greet'"):
        store.wait(parent, "run", "k", "greet", payload={})
    store.wait(parent, "batch", "b", "square", items=items(1, 2))
    with pytest.raises(Conflict, match=r"with 2 items.*one with 3"):
        store.wait(parent, "batch", "b", "square", items=items(1, 2, 3))


def test_the_last_child_of_a_batch_wakes_the_parent(store: Store) -> None:
    deploy(store)
    parent = store.started()
    store.wait(parent, "batch", "all", "square", items=items(1, 2, 3))
    store.suspend(parent, "all")
    claimed = [store.claim_one() for _ in range(3)]
    names = named(store, parent, "all")
    for n, one in enumerate(claimed):
        assert store.run(parent.run.id).status == "waiting"
        store.fail(one) if n == 1 else store.complete(one, n)
    assert store.run(parent.run.id).status == "queued"
    assert store.unlisted() == []
    told = {row.id: row.status for row in store.read(children.ends, names)}
    assert sorted(told.values()) == ["completed", "completed", "failed"]


def test_children_that_end_before_the_parent_stops_let_it_go_on(store: Store) -> None:
    deploy(store)
    parent = store.started()
    store.wait(parent, "run", "child", "square", payload={"n": 3})
    store.complete(store.claim_one())
    assert store.suspend(parent, "child").status == "queued"


@pytest.mark.parametrize("end", ["expire", "cancel", "overdue", "skip"])
def test_a_child_that_ends_without_running_wakes_the_parent(store: Store, end: str) -> None:
    narrow = queue(concurrency=1, on_full="skip" if end == "skip" else "queue")
    deploy(store, queue=narrow, total_timeout=50.0 if end == "overdue" else None)
    parent = store.started()
    if end == "skip":
        store.trigger("square", {"n": 0})
    options = {"ttl": 10} if end == "expire" else {}
    called = store.wait(parent, "run", "child", "square", payload={"n": 3}, options=options)
    if end == "skip":
        assert called.row.status == "done"
        return
    store.suspend(parent, "child")
    (name,) = named(store, parent, "child")
    if end == "cancel":
        assert store.cancel(name).topics >= {f"run:{parent.run.id}"}
    else:
        store.now += 60
        store.sweep()
    assert store.run(parent.run.id).status == "queued"
    assert store.unlisted() == []
    assert store.run(name).status == {"expire": "expired", "cancel": "canceled", "overdue": "timed_out"}[end]


def test_what_is_wrong_is_named_and_nothing_is_made(store: Store) -> None:
    deploy(store)
    parent = store.started()
    with pytest.raises(Invalid, match="n: 'x' is not an integer") as wrong:
        store.wait(parent, "run", "a", "square", payload={"n": "x"})
    assert wrong.value.code == "bad_payload"
    with pytest.raises(Invalid, match=r"items\[1\]\.n: missing") as wrong:
        store.wait(parent, "batch", "b", "square", items=[{"payload": {"n": 1}}, {"payload": {}}])
    assert wrong.value.code == "bad_batch"
    with pytest.raises(Invalid, match="did you mean 'orders/square'") as wrong:
        store.wait(parent, "run", "c", "squar", payload={})
    assert wrong.value.code == "unknown_task"
    for options in ({"idempotency_key": "k"}, {"debounce": {"key": "k", "delay": 1}}):
        with pytest.raises(Invalid, match="for a run that is waited for"):
            store.wait(parent, "run", "d", "square", payload={"n": 1}, options=options)
    with pytest.raises(Invalid, match="colour"):
        store.wait(parent, "run", "e", "square", payload={"n": 1}, options={"colour": "red"})
    with pytest.raises(Invalid, match="items"):
        store.wait(parent, "batch", "f", "square", items=[])
    assert len(store.read(lambda conn, now: conn.execute(select(table.c.id)).all())) == 1
    assert store.read(lambda conn, now: conn.execute(select(waits)).all()) == []


def test_a_queue_that_refuses_is_heard_in_the_parent(store: Store) -> None:
    deploy(store, queue=queue(rate={"limit": 1, "period": 60.0}, rate_excess="refuse"))
    parent = store.started()
    with pytest.raises(RateLimited, match=r"items\[1\]"):
        store.wait(parent, "batch", "b", "square", items=items(1, 2))
    store.wait(parent, "run", "a", "square", payload={"n": 1})
    with pytest.raises(RateLimited):
        store.wait(parent, "run", "b", "square", payload={"n": 1})


def test_a_triggered_child_is_waited_for_later_and_only_ones_own(store: Store) -> None:
    deploy(store)
    other = store.trigger("square", {"n": 0})
    store.complete(store.claim_one())
    parent = store.started()
    store.wait(parent, "trigger", "t", "square", payload={"n": 1})
    (name,) = named(store, parent, "t")
    with pytest.raises(Invalid, match="no run that this one has triggered"):
        store.wait(parent, "run", "x", "square", run=other.id)
    assert store.wait(parent, "run", "t.result", "square", run=name).row.status == "pending"
    store.suspend(parent, "t.result")
    store.complete(store.claim_one(), 1)
    again = store.claim_one()
    assert again.run.id == parent.run.id
    assert store.wait(again, "run", "late", "square", run=name).row.status == "done"


def test_a_child_with_an_idempotency_key_may_be_anothers(store: Store) -> None:
    deploy(store)
    first = store.trigger("square", {"n": 1}, idempotency_key="k")
    store.complete(store.claim_one())
    parent = store.started()
    store.wait(parent, "trigger", "t", "square", payload={"n": 1}, options={"idempotency_key": "k"})
    assert named(store, parent, "t") == [first.id]
    with pytest.raises(Conflict) as conflict:
        store.wait(parent, "trigger", "u", "square", payload={"n": 2}, options={"idempotency_key": "k"})
    assert conflict.value.code == "idempotency_conflict"


def test_a_cancel_goes_down_the_family(store: Store) -> None:
    deploy(store)
    parent = store.started()
    store.wait(parent, "trigger", "detached", "greet", payload={}, detached=True)
    store.wait(parent, "trigger", "begun", "greet", payload={})
    store.wait(parent, "run", "awaited", "greet", payload={})
    store.suspend(parent, "awaited")
    family = {key: named(store, parent, key)[0] for key in ("detached", "begun", "awaited")}
    claimed = {one.run.id: one for one in (store.claim_one() for _ in range(3))}
    child = claimed[family["awaited"]]
    store.start(child)
    store.wait(child, "run", "grandchild", "square", payload={"n": 1})
    store.suspend(child, "grandchild")
    (grandchild,) = named(store, child, "grandchild")
    canceled = store.cancel(parent.run.id)
    assert canceled.topics >= {f"run:{child.run.id}", f"run:{grandchild}", "commands:r1"}
    states = {key: store.run(name).status for key, name in family.items()}
    # a running one is asked to end; it ends when its runner says so
    assert states == {"detached": "running", "begun": "running", "awaited": "canceled"}
    assert store.run(grandchild).status == "canceled"
    assert store.run(family["begun"]).cancel_requested_at is not None
    assert store.run(family["detached"]).cancel_requested_at is None
    assert store.lose(claimed[family["begun"]], "canceled").status == "canceled"


def test_a_parent_that_fails_ends_the_children_it_was_waiting_for(store: Store) -> None:
    deploy(store)
    parent = store.started()
    store.wait(parent, "trigger", "begun", "square", payload={"n": 1})
    store.wait(parent, "batch", "awaited", "square", items=items(1, 2))
    store.fail(parent)
    begun, awaited = named(store, parent, "begun"), named(store, parent, "awaited")
    assert [store.run(name).status for name in begun + awaited] == ["queued", "canceled", "canceled"]
    # what ends after its parent wakes nobody
    store.complete(store.claim_one())
    assert store.run(parent.run.id).status == "failed"


def test_there_is_a_limit_to_how_deep_it_goes(store: Store) -> None:
    store.deploy(task_entry("greet"))
    claimed = store.started()
    for depth in range(MAX_RUN_DEPTH):
        store.wait(claimed, "run", "deeper", "greet", payload={})
        store.suspend(claimed, "deeper")
        claimed = store.claim_one()
        assert claimed.run.depth == depth + 1
        store.start(claimed)
    with pytest.raises(Invalid, match="32 runs above this one") as refused:
        store.wait(claimed, "run", "deeper", "greet", payload={})
    assert refused.value.code == "too_deep"
    # and the way back up
    for _ in range(MAX_RUN_DEPTH):
        store.complete(claimed)
        claimed = store.claim_one()
    assert claimed.run.depth == 0


def test_there_is_a_limit_to_how_many(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "MAX_CHILDREN", 3)
    deploy(store)
    parent = store.started()
    store.wait(parent, "batch", "a", "square", items=items(1, 2))
    with pytest.raises(TooLarge, match="4 children"):
        store.wait(parent, "batch", "b", "square", items=items(1, 2))
    store.wait(parent, "trigger", "c", "square", payload={"n": 1})


def test_parents_and_children_share_one_place(store: Store) -> None:
    store.deploy(task_entry("greet", queue=queue(concurrency=1)))
    claimed = store.started()
    for _ in range(3):
        store.wait(claimed, "run", "deeper", "greet", payload={})
        assert store.claim() == []
        store.suspend(claimed, "deeper")
        claimed = store.claim_one()
    for _ in range(4):
        store.complete(claimed)
        claimed, *_ = [*store.claim(), claimed]
    assert {row.status for row in store.read(runs.listing, runs.Filter())[0]} == {"completed"}


def test_a_thousand_children_in_one_transaction(store: Store) -> None:
    deploy(store)
    parent = store.started()
    store.wait(parent, "batch", "all", "square", items=items(*range(1000)))
    store.suspend(parent, "all")
    assert len(set(named(store, parent, "all"))) == 1000
    store.cancel(parent.run.id)
    states = store.read(lambda conn, now: conn.scalars(select(table.c.status).distinct()).all())
    assert list(states) == ["canceled"]


def test_children_that_end_together_wake_their_parent_once(store: Store) -> None:
    """Two that both found the other one unfinished would leave the parent waiting for ever."""
    deploy(store)
    for _ in range(25):
        parent = store.started()
        store.wait(parent, "batch", "all", "square", items=items(*range(6)))
        claimed = [store.claim_one() for _ in range(6)]
        ends = [lambda one=one: store.complete(one) for one in claimed]
        ends.append(lambda parent=parent: store.suspend(parent, "all"))
        random.shuffle(ends)
        with ThreadPoolExecutor(7) as pool:
            for future in [pool.submit(end) for end in ends]:
                future.result(30)
        again = store.claim_one()
        assert again.run.id == parent.run.id
        store.complete(again)


def test_a_parent_is_canceled_while_its_children_end(store: Store) -> None:
    """Locks are taken from the ancestors down, so nobody waits crosswise, and every run has one end."""
    deploy(store)

    def quietly(act: Any) -> None:
        for _ in range(20):
            try:
                act()
                return
            except StorageUnavailable:
                continue
            except Refused:
                return
        raise AssertionError("it never came through")

    for _ in range(25):
        parent = store.started()
        store.wait(parent, "batch", "all", "square", items=items(*range(4)))
        store.suspend(parent, "all")
        claimed = [store.claim_one() for _ in range(4)]
        acts = [lambda one=one: store.complete(one) for one in claimed[:3]]
        acts.append(lambda parent=parent: store.cancel(parent.run.id))
        acts.append(store.sweep)
        random.shuffle(acts)
        with ThreadPoolExecutor(5) as pool:
            for future in [pool.submit(quietly, act) for act in acts]:
                future.result(30)
        assert store.run(parent.run.id).status == "canceled"
        assert {store.run(one.run.id).status for one in claimed[:3]} <= {"completed"}
        # the one that still runs was asked to end
        assert store.run(claimed[3].run.id).cancel_requested_at is not None
        store.lose(claimed[3], "canceled")
