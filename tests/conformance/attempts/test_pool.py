"""What runners tell of their pools, as it is stored: nothing is lost or doubled when a heartbeat is said again."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, event, func, select

from coordinator.attempts import pool, runners
from coordinator.attempts.pool import MOST_LIVES
from coordinator.storage.tables import lives, starts
from coordinator.wire import Heartbeat, Life, PoolEntry, Sample, StartCount, StartSlot, Whose
from tests.conformance.store import HOST, Store

MINUTE = 60.0


def beat(store: Store, runner: str = "r1", **said: Any) -> str | None:
    """The state that is known of its containers after it."""
    body = Heartbeat(memory=HOST, slots=8, task_memory=HOST, **said)
    return store.write(runners.heartbeat, runner, body).pool


def entry(name: str, state: Any = "idle", project: str = "orders", age: float = 5.0) -> PoolEntry:
    return PoolEntry(container=name, project=project, image="i", state=state, memory=100, runs=1, age=age)


def life(name: str, project: str = "orders", ago: float = 0.0, **values: Any) -> Life:
    given = {"why": "age", "lived": 60.0, "runs": 2, **values}
    return Life(container=name, project=project, image="i", memory=100, ago=ago, **given)


def slot(name: str, *counts: tuple[str, Any, Any, int], ago: float = 10.0) -> StartSlot:
    counted = [StartCount(project=p, start=s, cause=c, count=n) for p, s, c, n in counts]
    return StartSlot(slot=name, ago=ago, counts=counted)


def listed(store: Store, project: str | None = None) -> dict[str, tuple[str, float]]:
    (row,) = store.read(pool.live)
    return {e.container: (e.state, e.age) for e in pool.containers(row, store.now, project)[0]}


def test_containers_are_told_whole_and_then_as_they_change(store: Store) -> None:
    assert beat(store, pool=[entry("c1"), entry("c2", project="other")], state="b-1") == "b-1"
    store.now += 10
    assert listed(store) == {"c1": ("idle", 15.0), "c2": ("idle", 15.0)}, "they grow older by themselves"
    assert listed(store, "orders").keys() == {"c1"}
    (row,) = store.read(pool.live)
    assert pool.containers(row, store.now, "orders")[1] == 200, "the memory of all of them counts"
    busy = entry("c1", "busy", age=15.0)
    changed: dict[str, Any] = {"pool": [busy], "gone": ["c2"], "base": "b-1", "state": "b-2"}
    assert beat(store, **changed) == "b-2"
    assert beat(store, **changed) == "b-2", "its answer was lost, and it is said again"
    assert listed(store) == {"c1": ("busy", 15.0)}


def test_what_continues_something_else_changes_nothing_and_all_is_asked_for(store: Store) -> None:
    beat(store, pool=[entry("c1")], state="b-1")
    assert beat(store, pool=[entry("c9")], base="b-0", state="b-2") is None
    assert listed(store).keys() == {"c1"}
    assert beat(store, pool=[entry("c2")], state="b-3") == "b-3"
    assert listed(store).keys() == {"c2"}


def test_a_heartbeat_that_has_nothing_new_writes_no_containers(store: Store) -> None:
    beat(store, pool=[entry(f"c{n}") for n in range(200)], state="b-1")
    written: list[str] = []

    def note(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        written.append(f"{statement} {parameters}")

    def quiet(conn: Connection, now: float) -> None:
        event.listen(conn, "before_cursor_execute", note)
        body = Heartbeat(memory=HOST, slots=8, task_memory=HOST, base="b-1", state="b-1")
        runners.heartbeat(conn, now, "r1", body)

    store.write(quiet)
    assert written
    assert not [text for text in written if "c199" in text or "lives" in text or "starts" in text]


def test_those_that_have_left_are_kept_once(store: Store) -> None:
    told = life("c1", ago=5.0, why="evicted", by=Whose(project="other", task="report"),
                memory_runs=[Sample(peak=9, after=4)], worth=0.5, task="greet")  # fmt: skip
    beat(store, left=[told])
    store.now += 30
    beat(store, left=[told.model_copy(update={"ago": 35.0}), life("c2", "other", ago=1.0)])
    rows = store.read(pool.left, None, 10)
    assert [row.container for row in rows] == ["c2", "c1"], "the newest first"
    assert (rows[1].left_at, rows[1].began_at) == (store.now - 35, store.now - 95)
    assert (rows[1].by_project, rows[1].by_task, rows[1].worth, rows[1].runs) == ("other", "report", 0.5, 2)
    assert [row.container for row in store.read(pool.left, "other", 10)] == ["c2"]
    assert [row.container for row in store.read(pool.left, None, 1)] == ["c2"]


def test_of_one_runner_so_many_are_kept_whatever_it_tells(store: Store) -> None:
    def count(conn: Connection, now: float) -> int:
        return int(conn.scalar(select(func.count()).select_from(lives)) or 0)

    beat(store, "r2", left=[life("another", ago=10_000.0)])
    for part in range(5):
        beat(store, left=[life(f"c{part}-{n}", ago=5000.0 - 500 * part - n / 10) for n in range(500)])
    assert store.read(count) == MOST_LIVES + 1
    kept = {row.container for row in store.read(pool.left, None, MOST_LIVES + 1)}
    assert {"another", "c4-499", "c1-0"} <= kept
    assert not kept & {"c0-0", "c0-499"}, "the oldest have gone"


def test_how_runs_began_is_the_last_word_on_each_slot(store: Store) -> None:
    first = slot("b-1", ("orders", "cold", "first", 1), ("orders", "warm", None, 2))
    beat(store, starts=[first])
    beat(store, starts=[first])
    store.now += 20
    beat(store, starts=[slot("b-1", ("orders", "cold", "first", 1), ("orders", "warm", None, 5), ago=30.0)])
    beat(store, "r2", starts=[slot("b-1", ("other", "stem", None, 4))])
    found = sorted(store.read(pool.began), key=lambda began: began.at)
    assert [began.at for began in found] == [store.now - 30, store.now - 10]
    assert [[(c.start, c.cause, c.count) for c in began.counts] for began in found] == [
        [("cold", "first", 1), ("warm", None, 5)],
        [("stem", None, 4)],
    ]
    store.now += 2 * 86400
    assert store.read(pool.began) == []

    def rows(conn: Connection, now: float) -> int:
        return int(conn.scalar(select(func.count()).select_from(starts)) or 0)

    assert store.read(rows) == 2, "retention takes them"
