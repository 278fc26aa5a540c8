"""The pure warm-pool policy, replayed with times of its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runner.warm import WarmSet


def warm(keep_alive: float = 60, most: int = 50, most_per_task: int = 5) -> WarmSet:
    return WarmSet(keep_alive=keep_alive, most=most, most_per_task=most_per_task)


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
    pool = warm(keep_alive=60)
    pool.put("a", "k", "t", now=0)
    pool.take("k")
    pool.put("a", "k", "t", now=50)
    assert pool.expired(now=109) == []
    assert pool.expired(now=110) == ["a"]
    assert len(pool) == 0


def test_eviction_is_least_recently_used_first() -> None:
    pool = warm()
    for n, name in enumerate("abc"):
        pool.put(name, name, "t", now=n)
    pool.take("a")
    pool.put("a", "a", "t", now=9)
    assert [pool.evict(), pool.evict(), pool.evict(), pool.evict()] == ["b", "c", "a", None]


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "take", "evict", "expire"]), st.integers(0, 5), st.integers(0, 3)),
        max_size=200,
    )
)
def test_caps_hold_and_nothing_is_lost_or_doubled(steps: list[tuple[str, int, int]]) -> None:
    pool = warm(keep_alive=30, most=4, most_per_task=2)
    inside: set[str] = set()
    for now, (what, key, task) in enumerate(steps):
        if what == "put":
            name = f"c{now}"
            inside.add(name)
            inside -= set(pool.put(name, f"k{key}", f"t{task}", now))
        elif what == "take":
            inside.discard(pool.take(f"k{key}") or "")
        elif what == "evict":
            inside.discard(pool.evict() or "")
        else:
            inside -= set(pool.expired(now))
        assert {idle.name for idle in pool} == inside
        assert len(pool) <= 4
        assert all(sum(i.task == f"t{t}" for i in pool) <= 2 for t in range(4))
