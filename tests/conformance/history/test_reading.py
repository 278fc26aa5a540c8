"""Series and the figures of tasks, out of history."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, event

from coordinator.foundation.errors import Invalid
from coordinator.history import reading, series
from coordinator.wire import TaskState
from tests.conformance.history.test_folding import fact, fold_all, tell
from tests.conformance.store import MIB, Store, task_entry

#: A full hour, and a full day.
DAY = 20_834 * 86400.0


def told(store: Store, *facts: dict[str, Any]) -> None:
    tell(store, list(facts))
    fold_all(store)


def tasks(store: Store, window: Any = "24h", **wanted: Any) -> dict[str, TaskState]:
    items, _ = store.read(reading.task_states, reading.Declared(**wanted), window)
    return {f"{item.project}/{item.task}": item for item in items}


def test_a_series_is_of_a_task_a_project_or_all(store: Store) -> None:
    store.now = DAY + 5 * 3600 + 60
    store.deploy(task_entry("greet"))
    store.deploy(task_entry("bake"), project="bakery")
    told(
        store,
        fact(at=DAY + 3600, run_ms=100.0),
        fact(at=DAY + 3600, status="failed", outcome="failed", reason="exception", error_type="E", run_ms=300.0),
        fact(at=DAY + 3 * 3600, task="other", start="cold", cause="first"),
        fact(at=DAY + 3 * 3600 + 3599, task="bake", project="bakery", status=None, outcome="lost"),
    )

    def of(project: str | None, task: str | None, since: float = DAY, step: Any = "hour") -> list[Any]:
        found = store.read(reading.points, project, task, since, step)
        return [(point.at[11:13], point.runs, point.attempts, point.failed) for point in found]

    assert of("orders", "greet") == [("01", 2, 2, 1)]
    assert of("orders", None) == [("01", 2, 2, 1), ("03", 1, 1, 0)]
    assert of(None, None) == [("01", 2, 2, 1), ("03", 1, 2, 0)]
    assert of(None, None, DAY + 3 * 3600 + 1800) == [("03", 1, 2, 0)]  # whole hours
    assert of(None, None, step="day") == [("00", 3, 4, 1)]
    assert of("none", None) == []
    (point,) = store.read(reading.points, "orders", "greet", DAY, "hour")
    assert point.run_ms.p50 == pytest.approx(100, rel=0.1)
    assert point.run_ms.p95 == pytest.approx(300, rel=0.1)
    assert point.statuses == {"completed": 1, "failed": 1}


def test_a_series_is_bounded(store: Store) -> None:
    with pytest.raises(Invalid, match="take step=day"):
        store.read(reading.points, None, None, store.now - 1001 * 3600, "hour")
    with pytest.raises(Invalid, match="1000 are the most"):
        store.read(reading.points, None, None, 0.0, "day")
    with pytest.raises(Invalid, match="say of which project"):
        store.read(reading.points, None, "greet", store.now, "hour")


@pytest.mark.parametrize(("window", "expected"), [("1h", 2), ("24h", 4), ("7d", 6), ("30d", 8)])
def test_the_figures_of_a_window_are_of_that_window(store: Store, window: Any, expected: int) -> None:
    """Two ends in each, one at its begin and one just after; and one before it."""
    store.now = DAY + 50 * 86400 + 5 * 3600 + 1800
    store.deploy()
    begins = [reading.begun(store.now, window) for window in reading.WINDOWS]
    told(store, *(fact(at=at + more) for at in begins for more in (0, 1)), fact(at=begins[-1] - 1))
    figures = tasks(store, window)["orders/greet"].figures
    assert figures.runs == expected
    covered = store.now - reading.begun(store.now, window)
    assert figures.per_hour == pytest.approx(expected / covered * 3600)
    assert 0 <= covered - reading.WINDOWS[window] < 3600


def test_each_declared_task_has_its_figures_and_options(store: Store) -> None:
    store.deploy(task_entry("greet"), task_entry("idle", memory=64 * MIB))
    store.deploy(task_entry("bake"), project="bakery")
    ends = [
        fact(at=store.now, start="cold" if n % 4 == 0 else "warm", cause="first" if n % 4 == 0 else None,
             peak_memory=60 * MIB, queued_ms=10.0, start_ms=40.0, run_ms=100.0)
        for n in range(120)
    ]  # fmt: skip
    told(store, *ends, fact(at=store.now, task="gone"))
    found = tasks(store)
    assert list(found) == ["bakery/bake", "orders/greet", "orders/idle"]
    greet, idle = found["orders/greet"], found["orders/idle"]
    assert greet.options["memory"] == 512 * MIB
    assert (greet.figures.runs, greet.figures.cold, greet.figures.causes) == (120, 0.25, {"first": 30})
    assert greet.figures.queued_ms.p95 == pytest.approx(10, rel=0.1)
    assert greet.figures.memory is not None
    assert (greet.figures.memory.kind, greet.figures.memory.advised_bytes) == ("less", 96 * MIB)
    assert (idle.figures.runs, idle.figures.cold, idle.figures.memory) == (0, None, None)
    assert list(tasks(store, project="bakery")) == ["bakery/bake"]
    assert list(tasks(store, task="idle")) == ["orders/idle"]


def test_tasks_are_listed_in_pages_each_in_few_statements(store: Store) -> None:
    store.deploy(*(task_entry(f"t{n:02d}") for n in range(25)))
    told(store, *(fact(at=store.now, task=f"t{n:02d}") for n in range(25)))
    sent: list[str] = []

    def page(conn: Connection, now: float, after: tuple[str, str] | None) -> Any:
        def before(conn: Any, cursor: Any, statement: str, *rest: Any) -> None:
            sent.append(statement)

        event.listen(conn.engine, "before_cursor_execute", before)
        try:
            return reading.task_states(conn, now, reading.Declared(after=after, limit=10), "30d")
        finally:
            event.remove(conn.engine, "before_cursor_execute", before)

    seen, after = [], None
    while True:
        items, after = store.read(page, after)
        assert all(item.figures.runs == 1 for item in items)
        seen += [item.task for item in items]
        if after is None:
            break
    assert seen == [f"t{n:02d}" for n in range(25)]
    assert len(sent) == 2 * 3


def test_series_of_a_project_does_not_read_the_rows_of_each_task(store: Store) -> None:
    told(store, *(fact(at=store.now, task=f"t{n}") for n in range(90)))

    def rows(conn: Connection, now: float) -> int:
        found = reading.points(conn, now, "orders", None, now - 3600, "hour")
        return sum(point.runs for point in found)

    assert store.read(rows) == 90
    assert series.ALL == ""
