"""The pure warm-pool policy, replayed with times of its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.keeping.warm import Rule, WarmSet

MIB = 1024**2


def warm(keep_alive: float = 60, most: int = 50, most_per_task: int = 5, rule: Rule = "lru") -> WarmSet:
    return WarmSet(keep_alive=keep_alive, most=most, most_per_task=most_per_task, rule=rule)


def test_the_last_used_of_a_key_is_taken_first() -> None:
    pool = warm()
    for n in range(3):
        assert pool.put(f"c{n}", "k", "t", now=n) == []
    assert [pool.take("k"), pool.take("k"), pool.take("k"), pool.take("k")] == ["c2", "c1", "c0", None]


def test_another_key_is_never_taken() -> None:
    pool = warm()
    pool.put("c", "one", "t", now=0)
    assert pool.take("two") is None


def test_the_task_cap_sends_the_tasks_oldest_away() -> None:
    pool = warm(most_per_task=2)
    pool.put("a", "k", "t", now=0)
    pool.put("other", "k", "u", now=1)
    pool.put("b", "k", "t", now=2)
    assert pool.put("c", "k", "t", now=3) == ["a"]
    assert {idle.name for idle in pool} == {"other", "b", "c"}


def test_the_total_cap_sends_the_least_recently_used_away() -> None:
    pool = warm(most=2)
    pool.put("a", "k1", "t1", now=0)
    pool.put("b", "k2", "t2", now=1)
    assert pool.put("c", "k3", "t3", now=2) == ["a"]


def test_a_cap_of_nothing_keeps_nothing() -> None:
    assert warm(most=0).put("a", "k", "t", now=0) == ["a"]
    assert warm(most_per_task=0).put("a", "k", "t", now=0) == ["a"]


def test_keep_alive_counts_from_the_last_use() -> None:
    pool = warm(keep_alive=60, rule="ttl")
    pool.put("a", "k", "t", now=0)
    pool.take("k")
    pool.put("a", "k", "t", now=50)
    assert pool.expired(now=109) == []
    assert pool.expired(now=110) == ["a"]
    assert len(pool) == 0


@pytest.mark.parametrize("rule", ["lru", "greedy-dual"])
def test_only_ttl_ends_what_nobody_wants_the_memory_of(rule: Rule) -> None:
    pool = warm(keep_alive=60, rule=rule)
    pool.put("a", "k", "t", now=0)
    assert pool.expired(now=1e9) == []


@pytest.mark.parametrize("rule", ["lru", "ttl"])
def test_eviction_is_least_recently_used_first(rule: Rule) -> None:
    pool = warm(rule=rule)
    for n, name in enumerate("abc"):
        pool.put(name, name, "t", now=n)
    pool.take("a")
    pool.put("a", "a", "t", now=9)
    assert [pool.evict(), pool.evict(), pool.evict(), pool.evict()] == ["b", "c", "a", None]


def test_greedy_dual_lets_go_what_saves_least_for_its_memory() -> None:
    pool = warm(rule="greedy-dual")
    pool.put("slow", "slow", "slow", now=0, memory=100 * MIB, cost=5.0)
    pool.put("quick", "quick", "quick", now=1, memory=100 * MIB, cost=0.5)
    pool.put("small", "small", "small", now=2, memory=10 * MIB, cost=0.5)
    assert [pool.evict(), pool.evict(), pool.evict()] == ["quick", "slow", "small"]


def test_greedy_dual_keeps_what_is_used_often() -> None:
    pool = warm(rule="greedy-dual")
    for n in range(5):
        pool.put("often", "often", "often", now=n)
        assert pool.take("often") == "often"
    pool.put("often", "often", "often", now=5)
    pool.put("once", "once", "once", now=6)
    assert pool.evict() == "once"


def test_greedy_dual_forgets_what_was_used_often_long_ago() -> None:
    pool = warm(rule="greedy-dual")
    for n in range(5):
        pool.put("before", "before", "before", now=n)
        pool.take("before")
    pool.put("before", "before", "before", now=5)
    gone = []
    for n in range(10):
        pool.put(f"new{n}", f"new{n}", f"new{n}", now=6 + n)
        gone.append(pool.evict())
    assert "before" in gone


def test_greedy_dual_knows_the_fifth_container_of_a_task_from_its_first() -> None:
    pool = warm(rule="greedy-dual")
    for n in range(20):  # one at a time, but once five
        pool.put("c0", "k", "t", now=n)
        pool.take("k")
    for n in range(5):
        pool.put(f"c{n}", "k", "t", now=20 + n)
    pool.put("other", "other", "other", now=30, cost=3.0)
    assert {pool.evict() for _ in range(4)} == {"c1", "c2", "c3", "c4"}
    assert pool.evict() == "other"


@pytest.mark.parametrize("rule", ["greedy-dual", "lru"])
def test_nothing_is_kept_of_what_is_gone(rule: Rule) -> None:
    pool = warm(rule=rule)
    for n in range(1000):
        pool.put(f"c{n}", f"k{n}", f"t{n}", now=n)
        pool.take(f"k{n}") if n % 2 else pool.evict()
    assert (len(pool), pool._of, pool._tasks, pool._idle._worth, pool._idle._ready) == (0, {}, {}, {}, {})


@given(
    st.sampled_from(["greedy-dual", "lru", "ttl", "lfu"]),
    st.lists(
        st.tuples(st.sampled_from(["put", "take", "evict", "expire"]), st.integers(0, 5), st.integers(0, 3)),
        max_size=200,
    ),
)
def test_caps_hold_and_nothing_is_lost_or_doubled(rule: Rule, steps: list[tuple[str, int, int]]) -> None:
    pool = warm(keep_alive=30, most=4, most_per_task=2, rule=rule)
    inside: set[str] = set()
    for now, (what, key, task) in enumerate(steps):
        if what == "put":
            name = f"c{now}"
            inside.add(name)
            room = pool.has_room(f"t{task}")
            leaving = pool.put(name, f"k{key}", f"t{task}", now)
            assert room == (not leaving)
            inside -= set(leaving)
        elif what == "take":
            inside.discard(pool.take(f"k{key}") or "")
        elif what == "evict":
            inside.discard(pool.evict() or "")
        else:
            inside -= set(pool.expired(now))
        assert {idle.name for idle in pool} == inside
        assert len(pool) <= 4
        assert all((pool.worth(f"c{n}") is not None) == (f"c{n}" in inside) for n in range(now + 1))
        assert all(sum(i.task == f"t{t}" for i in pool) <= 2 for t in range(4))
