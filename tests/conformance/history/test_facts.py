"""Every end is a fact, in the transaction that ended it. (That no end is forgotten, whoever makes it, is looked at
after every step of tests/conformance/test_machine.py and test_states.py.)"""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, Row, select

from coordinator.attempts import attempts
from coordinator.runs import runs
from coordinator.runs.runs import Filter
from coordinator.storage.tables import facts
from coordinator.storage.values import Stored
from coordinator.wire import ErrorBody, Finish, Started
from coordinator.wire.pool import Placing
from tests.conformance.store import MIB, Store, queue, task_entry


def told(store: Store) -> list[Row[Any]]:
    return store.read(lambda conn, now: list(conn.execute(select(facts).order_by(facts.c.id))))


def test_an_attempt_that_ends_its_run_is_one_fact(store: Store) -> None:
    store.deploy()
    run = store.trigger()
    store.now += 2
    claimed = store.claim_one()
    store.now += 1
    body = Started(
        token=claimed.token, start="cold", placing=Placing(cause="first", container="c", number=1, seconds=0.5)
    )
    store.write(attempts.start, claimed.attempt, body)
    store.now += 4
    store.complete(claimed, peak_memory_bytes=61 * MIB)
    (fact,) = told(store)
    assert (fact.kind, fact.outcome, fact.status, fact.number) == ("attempt", "completed", "completed", 1)
    assert (fact.project, fact.task, fact.version, fact.run_id) == ("orders", "greet", run.version, run.id)
    assert (fact.at, fact.start, fact.cause) == (store.now, "cold", "first")
    assert (fact.queued_ms, fact.start_ms, fact.run_ms, fact.total_ms) == (2000, 1000, 4000, 7000)
    assert (fact.peak_memory, fact.memory_limit) == (61 * MIB, 512 * MIB)
    assert (fact.reason, fact.error_type, fact.fingerprint, fact.title) == (None, None, None, None)


def test_one_that_is_tried_again_tells_its_error_and_no_end_of_the_run(store: Store) -> None:
    store.deploy(task_entry("greet", retry={"max_attempts": 2, "factor": 1, "min_delay": 0, "max_delay": 0}))
    claimed = store.started()
    store.fail(claimed)
    again = store.claim_one()
    store.lose(again)
    store.cancel(claimed.run.id)
    one, two, end = told(store)
    assert (one.outcome, one.status, one.reason, one.error_type, one.title) == (
        "failed", None, "exception", "ValueError", "no",
    )  # fmt: skip
    assert one.fingerprint is not None
    assert one.total_ms is None
    assert (two.outcome, two.status, two.number, two.reason) == ("lost", None, 2, "lost")
    assert (two.start, two.run_ms) == (None, None)
    assert (end.kind, end.outcome, end.status, end.number, end.reason) == (
        "run",
        None,
        "canceled",
        None,
        "canceled",
    )


@pytest.mark.parametrize("end", ["cancel", "expire", "overdue", "skip", "with its parent"])
def test_a_run_without_an_attempt_is_one_fact(store: Store, end: str) -> None:
    store.deploy(
        task_entry("greet", total_timeout=50), task_entry("narrow", queue=queue("n", concurrency=1, on_full="skip"))
    )
    if end == "skip":
        store.trigger("narrow")
        run = store.trigger("narrow").id
    elif end == "with its parent":
        parent = store.started("narrow")
        store.wait(parent, "trigger", "t", "greet", payload={})
        (run,) = (r.id for r in _children(store, parent.run.id))
        store.cancel(parent.run.id)
        store.lose(parent, "canceled")
    else:
        run = store.trigger(ttl=10 if end == "expire" else None).id
        if end == "cancel":
            store.cancel(run)
        else:
            store.now += 20 if end == "expire" else 60
            store.sweep()
    statuses = {"expire": "expired", "overdue": "timed_out"}
    (fact,) = [fact for fact in told(store) if fact.run_id == run]
    assert (fact.kind, fact.status) == ("run", statuses.get(end, "canceled"))
    assert (fact.error_type is None) == (end == "expire")
    assert fact.total_ms == (store.run(run).finished_at - store.run(run).created_at) * 1000


def _children(store: Store, parent: str) -> list[Row[Any]]:
    return store.read(runs.listing, Filter(parent=parent))[0]


def test_an_end_that_is_undone_tells_nothing(store: Store) -> None:
    store.deploy()
    claimed = store.started()

    def crash(conn: Connection, now: float) -> None:
        attempts.finish(conn, now, claimed.attempt, Finish(token=claimed.token, outcome="completed"), Stored("1"))
        raise InterruptedError

    with pytest.raises(InterruptedError):
        store.write(crash)
    assert told(store) == []
    store.complete(claimed)
    store.complete(claimed)  # said again
    assert len(told(store)) == 1


def test_what_no_column_takes_keeps_no_run_from_ending(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    error = ErrorBody(type="Bad\0Type\x1b[31m", message="\0\n\x1b[2Jbroken\0 in two")
    body = Finish(token=claimed.token, outcome="failed", error=error)
    store.write(attempts.finish, claimed.attempt, body, Stored())
    (fact,) = told(store)
    assert (fact.error_type, fact.title) == ("BadType[31m", "[2Jbroken in two")
    assert store.run(claimed.run.id).error_type == fact.error_type
