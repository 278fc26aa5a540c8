"""A queued run is put at the front of its queue."""

from __future__ import annotations

import pytest

from coordinator.foundation.errors import Conflict, NotFound
from coordinator.runs import bumping
from tests.conformance.store import MIB, Store, queue, task_entry


def order(store: Store) -> list[str]:
    return [claimed.run.id for claimed in store.claim(most=100)]


def test_a_bumped_run_is_next_in_its_own_line(store: Store) -> None:
    store.deploy()
    runs = []
    for _ in range(4):
        runs.append(store.trigger().id)
        store.now += 1
    store.write(bumping.bump, runs[2])
    store.write(bumping.bump, runs[3])
    # who was bumped last is first
    assert order(store) == [runs[3], runs[2], runs[0], runs[1]]
    assert store.unlisted() == []


def test_it_comes_before_priorities_and_before_the_other_lines_of_its_queue(store: Store) -> None:
    store.deploy(
        task_entry("greet", queue=queue("shared"), concurrency_key=None),
        task_entry("urgent", queue=queue("shared"), priority=1000),
        task_entry("big", queue=queue("shared"), memory=700 * MIB),
    )
    served = store.trigger(concurrency_key="a")
    store.now += 10
    assert order(store) == [served.id]
    store.now += 1
    others = [store.trigger("urgent").id, store.trigger("big").id, store.trigger(concurrency_key="b").id]
    store.now += 5
    # its line was served last of all, and it is the youngest
    mine = store.trigger(concurrency_key="a").id
    store.write(bumping.bump, mine)
    assert store.claim_one().run.id == mine
    assert set(order(store)) == set(others)


def test_limits_hold_for_it_all_the_same(store: Store) -> None:
    store.deploy(task_entry("greet", queue=queue("one", concurrency=1)))
    running = store.started()
    first, second = store.trigger(), store.trigger()
    store.write(bumping.bump, second.id)
    assert store.claim() == []
    store.complete(running)
    assert store.claim_one().run.id == second.id
    assert store.run(first.id).status == "queued"


def test_only_what_stands_in_line_is_bumped(store: Store) -> None:
    store.deploy()
    delayed = store.trigger(delay=10)
    with pytest.raises(Conflict, match="is delayed"):
        store.write(bumping.bump, delayed.id)
    with pytest.raises(NotFound):
        store.write(bumping.bump, "run_none")
