"""The line: whose turn it is, that nobody starves, and that a million waiting runs cost a claim nothing."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import Connection, event, func, select, text

from coordinator.attempts import claims
from coordinator.foundation import ids
from coordinator.line import lanes
from coordinator.maintenance import sweep
from coordinator.storage.tables import lanes as lane_rows
from coordinator.storage.tables import runs
from coordinator.wire import ClaimRequest
from tests.conformance.bulk import insert_many
from tests.conformance.store import GIB, MIB, Store, queue, task_entry


def flood(store: Store, count: int, keys: int = 1, task: str = "greet") -> None:
    """Many queued runs, written as `triggers.create` does, all at once."""
    first = store.trigger(task, concurrency_key="0")

    def fill(conn: Connection, now: float) -> None:
        row = dict(conn.execute(select(runs).where(runs.c.id == first.id)).one()._mapping)
        names = [lanes.name(row["project"], row["queue"], task, str(n), row["memory"]) for n in range(keys)]
        for start in range(0, count, 10_000):
            rows = [
                {
                    "id": ids.run(now),
                    "concurrency_key": str(n % keys),
                    "lane": names[n % keys],
                    "order_at": row["order_at"] + n / count,
                    "trace_id": ids.trace(),
                }
                for n in range(start, min(start + 10_000, count))
            ]
            insert_many(conn, runs, [{**row, **values} for values in rows])
        heads = select(func.min(runs.c.id)).where(runs.c.status == "queued").group_by(runs.c.lane)
        lanes.enter(conn, list(conn.execute(select(runs).where(runs.c.id.in_(heads)))))

    store.write(fill)


def taken(store: Store, count: int, **options: int) -> Counter[tuple[str, str | None]]:
    """(task, key) of the next runs, each completed at once, a second apart."""
    found: Counter[tuple[str, str | None]] = Counter()
    for _ in range(count):
        store.now += 1
        claimed = store.claim_one(**options)
        found[claimed.run.task, claimed.run.concurrency_key] += 1
        store.complete(claimed)
    return found


def test_a_task_that_floods_a_queue_does_not_starve_another(store: Store) -> None:
    shared = queue(concurrency=5)
    store.deploy(task_entry("flood", queue=shared), task_entry("calm", queue=shared))
    for _ in range(30):
        store.trigger("flood")
    store.now += 10
    for _ in range(5):
        store.trigger("calm")
    assert taken(store, 10) == {("flood", None): 5, ("calm", None): 5}


def test_a_key_that_floods_a_queue_does_not_starve_others(store: Store) -> None:
    store.deploy(task_entry("greet", queue=queue()))
    for _ in range(30):
        store.trigger(concurrency_key="loud")
    store.now += 10
    for key in ("a", "b"):
        for _ in range(3):
            store.trigger(concurrency_key=key)
    assert taken(store, 9) == {("greet", "loud"): 3, ("greet", "a"): 3, ("greet", "b"): 3}


def test_one_queue_that_is_flooded_does_not_starve_another(store: Store) -> None:
    store.deploy(task_entry("flood"), task_entry("calm"))
    for _ in range(30):
        store.trigger("flood")
    store.now += 10
    store.trigger("calm")
    assert taken(store, 2)["calm", None] == 1


def test_one_claim_of_many_takes_turns_too(store: Store) -> None:
    store.deploy(task_entry("greet", queue=queue(), memory=64 * MIB))
    for key in ("a", "b", "c"):
        for _ in range(10):
            store.trigger(concurrency_key=key)
    for _ in range(2):
        claimed = Counter(c.run.concurrency_key for c in store.claim(most=9))
        assert claimed == {"a": 3, "b": 3, "c": 3}


def test_who_comes_new_stands_behind_nobody_that_was_served_meanwhile(store: Store) -> None:
    store.deploy(task_entry("greet", queue=queue()))
    for _ in range(20):
        store.trigger(concurrency_key="loud")
    taken(store, 5)
    store.now += 1
    store.trigger(concurrency_key="new")
    assert taken(store, 2)["greet", "new"] == 1


def test_priority_is_seconds_of_head_start_across_tasks(store: Store) -> None:
    store.deploy(task_entry("plain"), task_entry("urgent", priority=30))
    plain = store.trigger("plain")
    store.now += 20
    urgent = store.trigger("urgent")
    later = store.trigger("plain", priority=5)
    assert [store.claim_one().run.id for _ in range(3)] == [urgent.id, plain.id, later.id]
    plain = store.trigger("plain")
    store.now += 40
    store.trigger("urgent")
    assert store.claim_one().run.id == plain.id


def test_priority_within_a_flooded_lane(store: Store) -> None:
    store.deploy()
    waiting = [store.trigger().id for _ in range(5)]
    taken(store, 1)
    urgent = store.trigger(priority=1000)
    assert store.claim_one().run.id == urgent.id
    assert store.claim_one().run.id == waiting[1]


def test_what_does_not_fit_leaves_the_rest_of_its_queue(store: Store) -> None:
    shared = queue(concurrency=5)
    store.deploy(task_entry("large", queue=shared, memory=3 * GIB), task_entry("small", queue=shared, memory=GIB))
    store.trigger("large")
    store.now += 1
    for _ in range(2):
        store.trigger("small")
    assert [c.run.task for c in store.claim(memory=2 * GIB, most=5)] == ["small", "small"]
    assert [c.run.task for c in store.claim("r2", memory=4 * GIB, most=5)] == ["large"]


def test_more_memory_after_it_ran_out_is_another_lane(store: Store) -> None:
    retry = {"max_attempts": 3, "factor": 1, "min_delay": 0, "max_delay": 0, "jitter": False, "oom_memory": GIB}
    store.deploy(task_entry("greet", retry=retry))
    store.heartbeat()
    claimed = store.started()
    assert store.lose(claimed, "out_of_memory").status == "queued"
    assert store.claim(memory=600 * MIB) == []
    assert store.claim_one(memory=GIB).memory == GIB


def test_a_lane_of_canceled_runs_is_left_behind(store: Store) -> None:
    store.deploy()
    for run in [store.trigger() for _ in range(3)]:
        store.cancel(run.id)
    assert store.claim() == []
    row = store.read(lambda conn, now: conn.execute(select(lane_rows)).one())
    assert row.rank is None
    again = store.trigger()
    assert store.claim_one().run.id == again.id


def test_lanes_that_were_empty_for_long_are_forgotten(store: Store) -> None:
    store.deploy(task_entry("greet", queue=queue()))
    store.complete(store.started(concurrency_key="once"))
    store.trigger(concurrency_key="twice")

    def keys() -> set[str]:
        return set(store.read(lambda conn, now: conn.scalars(select(lane_rows.c.key)).all()))

    store.sweep()
    assert keys() == {"once", "twice"}
    assert store.claim(memory=MIB) == []
    store.claim("other", memory=100 * MIB)
    store.now += 3600
    store.sweep()
    assert keys() == {"twice"}


@pytest.fixture(params=["per_key", "concurrency", "none"])
def long_line(request: pytest.FixtureRequest, store: Store) -> Store:
    """20,000 queued runs in 500 lanes, in queues with each kind of limit, some of them running."""
    limits: dict[str, Any] = {"per_key": {"per_key": 1}, "concurrency": {"concurrency": 50}, "none": {}}[
        request.param
    ]
    store.deploy(task_entry("greet", queue=queue(**limits), memory=64 * MIB))
    flood(store, 20_000, keys=500)
    assert len(store.claim("other", memory=2**40, slots=1000, most=20)) == 20
    return store


def test_waiting_runs_cost_a_claim_nothing(long_line: Store) -> None:
    """Every line is read from its head, by an index, on both databases; nothing is sorted but what runs."""
    plans: dict[str, str] = {}

    def look(conn: Connection, now: float) -> None:
        seen: list[tuple[str, Any]] = []

        def before(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
            seen.append((statement, parameters))

        sqlite = conn.dialect.name == "sqlite"
        if not sqlite:
            conn.execute(text("ANALYZE"))
        event.listen(conn.engine, "before_cursor_execute", before)
        taken = claims.claim(conn, now, "r1", ClaimRequest(memory=2**40, slots=10, most=2))
        sweep.run_once(conn, now)
        event.remove(conn.engine, "before_cursor_execute", before)
        assert len(taken) == 2
        explain = "EXPLAIN QUERY PLAN" if sqlite else "EXPLAIN"
        for statement, parameters in seen:
            if statement.startswith(("SELECT", "UPDATE", "DELETE")):
                rows = conn.exec_driver_sql(f"{explain} {statement}", parameters)
                plans[statement] = "\n".join(row.detail if sqlite else row[0] for row in rows)

    long_line.write(look)
    of_lines = {s: plan for s, plan in plans.items() if re.search(r"(FROM|UPDATE) (runs|lanes)", s)}
    assert len(of_lines) >= 9
    for statement, plan in of_lines.items():
        assert not re.search(r"SCAN (runs|lanes)\b|Seq Scan on (runs|lanes)", plan), (statement, plan)
        if "GROUP BY" not in statement and "LIMIT" in statement and "due_at <=" not in statement:
            assert not re.search(r"TEMP B-TREE|\bSort\b", plan), (statement, plan)
        # PostgreSQL's costs do not show it: an index that is not searched by its first column is read as a whole
        for name, found in re.findall(r"using (ix_runs_(?:lane|queued|running|due)) .*\n(.*)", plan):
            assert re.search(r"Index Cond: .*\bstatus\b", found), (statement, name, plan)
    assert any("ix_lanes_turn" in plan for plan in of_lines.values())
    assert any("ix_runs_lane" in plan for plan in of_lines.values())


def test_every_queued_run_has_a_lane_that_a_claim_looks_at(store: Store) -> None:
    """The promise of coordinator/line/lanes.py, after random work; test_states.py checks it as well."""
    store.deploy(task_entry("greet", queue=queue(concurrency=3, per_key=2)))
    for n in range(40):
        store.trigger(concurrency_key=str(n % 4))
    for n in range(30):
        store.now += 1
        for claimed in store.claim(most=2):
            if n % 3 == 0:
                store.lose(claimed)
            else:
                store.complete(claimed)
        store.sweep()
        assert store.unlisted() == []
