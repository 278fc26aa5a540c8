"""The type and fingerprint of what runs and attempts ended with, and finding runs by them among many."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from coordinator.attempts import attempts
from coordinator.history import fingerprints
from coordinator.runs import runs, views
from coordinator.runs.runs import Filter
from coordinator.storage.tables import runs as table
from coordinator.storage.values import Stored
from coordinator.wire import ErrorBody, Finish
from tests.conformance import plans
from tests.conformance.bulk import insert_many
from tests.conformance.store import Store, fixed, task_entry

TRACE = 'Traceback (most recent call last):\n  File "/app/tasks.py", line {}, in charge\nValueError: no\n'


def fail(store: Store, claimed: Any, line: int = 3, type: str = "ValueError") -> None:
    error = ErrorBody(type=type, message=f"order {line}", traceback=TRACE.format(line))
    body = Finish(token=claimed.token, outcome="failed", error=error)
    store.write(attempts.finish, claimed.attempt, body, Stored(), fixed(0.0))


def test_run_and_attempt_know_what_they_ended_with(store: Store) -> None:
    store.deploy(task_entry("greet", retry={"max_attempts": 2, "factor": 1, "min_delay": 0, "max_delay": 0}))
    claimed = store.started()
    fail(store, claimed)
    assert store.run(claimed.run.id).error_fingerprint is None
    claimed = store.claim_one()
    store.start(claimed)
    fail(store, claimed, line=7)
    run = store.run(claimed.run.id)
    one, two = store.attempts(run.id)
    assert run.error_type == one.error_type == two.error_type == "ValueError"
    assert run.error_fingerprint == one.error_fingerprint == two.error_fingerprint
    shown = views.run_summary(run).error
    assert shown is not None
    assert shown.fingerprint == fingerprints.of(ErrorBody.model_validate_json(run.error)) == run.error_fingerprint
    shown = views.attempt(one).error
    assert shown is not None
    assert shown.fingerprint == one.error_fingerprint


def test_what_completes_has_none(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    store.complete(claimed)
    run = store.run(claimed.run.id)
    assert (run.error, run.error_type, run.error_fingerprint) == (None, None, None)


def test_every_other_end_has_one(store: Store) -> None:
    store.deploy(task_entry("greet", total_timeout=50), task_entry("plain"))
    canceled, late = store.trigger("plain").id, store.trigger("greet").id
    store.cancel(canceled)
    store.now += 60
    store.sweep()
    for run, type in ((canceled, "Canceled"), (late, "TimedOut")):
        row = store.run(run)
        assert row.error_type == type
        assert row.error_fingerprint == fingerprints.of(ErrorBody.model_validate_json(row.error))


def test_runs_are_found_by_it(store: Store) -> None:
    store.deploy()
    for n, type in enumerate(("ValueError", "KeyError", "ValueError")):
        fail(store, store.started(), n, type)
    store.complete(store.started())
    wanted = fingerprints.of(ErrorBody(type="ValueError", message="", traceback=TRACE.format(1)))
    rows, _ = store.read(runs.listing, Filter(error=wanted))
    assert [row.error_type for row in rows] == ["ValueError", "ValueError"]
    assert store.read(runs.listing, Filter(error=wanted, project="other"))[0] == []
    assert store.read(runs.listing, Filter(error="0" * 16))[0] == []


MANY = 20_000


@pytest.fixture
def many(store: Store) -> Store:
    """20,000 runs, half of them of one task and completed but for a few of the oldest, half of one that fails."""
    store.deploy()
    template = dict(store.trigger()._mapping)

    def fill(conn: Connection, now: float) -> None:
        rows = []
        for n in range(MANY):
            rare = n < 10
            rows.append(
                template
                | {
                    "id": f"run_{n:026d}",
                    # those of another task fail all the time
                    "task": "greet" if rare or n % 2 else "other",
                    "status": "failed" if rare or n % 2 == 0 else "completed",
                    "finished_at": now,
                    "expires_at": None,
                    "error_fingerprint": f"{'a' if n < 5 else 'b'}" * 16 if rare or n % 3 == 0 else None,
                    "project": "orders" if n != 3 else "other",
                }
            )
        insert_many(conn, table, rows)

    store.write(fill)
    return store


FOUND = [
    (Filter(error="a" * 16), "ix_runs_error", 5),
    (Filter(error="a" * 16, project="orders"), "ix_runs_error(_project)?", 4),
    (Filter(task="greet", statuses=("failed",)), "ix_runs_task_status", 10),
    (Filter(task="orders/greet", statuses=("failed",)), "ix_runs_task_status", 9),
    (Filter(task="greet", statuses=("failed", "timed_out")), "ix_runs_task_status", 10),
]


def test_they_are_found_by_an_index(many: Store) -> None:
    for wanted, index, count in FOUND:
        listed, plan = plans.of_listing(many, wanted)
        assert listed == count, wanted
        assert re.search(rf"\b{index}\b", plan), (wanted, plan)
        assert not re.search(r"SCAN runs\b|Seq Scan on runs\b", plan), plan


def test_a_page_of_one_error_is_read_in_its_order(many: Store) -> None:
    """However many runs have it: `b` is that of a third."""

    def look(conn: Connection, now: float) -> list[str]:
        plans = []
        for project in (None, "orders"):
            query = select(table).where(table.c.error_fingerprint == "b" * 16).order_by(table.c.id.desc()).limit(50)
            if project is not None:
                query = query.where(table.c.project == project)
            compiled = query.compile(conn, compile_kwargs={"literal_binds": True})
            sqlite = conn.dialect.name == "sqlite"
            found = conn.exec_driver_sql(f"{'EXPLAIN QUERY PLAN' if sqlite else 'EXPLAIN'} {compiled}")
            plans.append("\n".join(row.detail if sqlite else row[0] for row in found))
        return plans

    for plan in many.read(look):
        assert not re.search(r"TEMP B-TREE|\bSort\b|SCAN runs\b|Seq Scan", plan), plan


def test_runs_older_than_fingerprints_are_shown(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    fail(store, claimed)
    store.write(lambda conn, now: conn.execute(update(table).values(error_fingerprint=None, error_type=None)))
    shown = views.run_summary(store.run(claimed.run.id)).error
    assert shown is not None
    assert (shown.type, shown.fingerprint) == ("ValueError", None)
