"""The trace of runs as the store writes them, on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection

from coordinator.attempts import attempts, checkpoints
from coordinator.foundation.errors import NotFound
from coordinator.foundation.limits import LEASE, TRACE_CHECKPOINTS, TRACE_CHILDREN
from coordinator.runs import history, plans, trace, triggers
from coordinator.storage.values import Stored
from coordinator.wire import Placing, ReplayRequest, Retry, Started, Trace
from tests.conformance.storage.test_statements import Watched
from tests.conformance.store import Store, task_entry
from tests.traced import check

#: No statement more for whatever a run has been through.
MOST = 6


def traced(store: Store, run: str) -> Trace:
    def read(conn: Connection, now: float) -> Trace:
        return trace.build(history.read(conn, now, run), now)

    found: Trace = store.read(read)
    return found


def parts(store: Store, run: str) -> dict[str, float]:
    """The ledger of a run in seconds, without what is nothing."""
    return {name: round(ms / 1000, 3) for name, ms in check(traced(store, run)).items()}


def kinds(store: Store, run: str) -> list[str]:
    return [span.kind for span in traced(store, run).spans]


def test_a_run_that_is_not_there(store: Store) -> None:
    with pytest.raises(NotFound):
        traced(store, "run_none")


def test_a_run_that_was_never_started(store: Store) -> None:
    store.deploy()
    run = store.trigger(delay=10).id
    store.now += 4
    assert parts(store, run) == {"delayed": 4}
    store.now += 7
    store.sweep()
    store.now += 5
    assert parts(store, run) == {"delayed": 10, "queued": 6}
    assert kinds(store, run) == ["run", "delayed", "queued"]
    assert traced(store, run).spans[-1].ended_at is None
    store.cancel(run)
    store.now += 100
    assert parts(store, run) == {"delayed": 10, "queued": 6}
    assert traced(store, run).spans[-1].ended_at is not None


def test_a_run_that_is_canceled_while_it_is_delayed(store: Store) -> None:
    store.deploy()
    run = store.trigger(delay=10).id
    store.now += 3
    store.cancel(run)
    store.now += 100
    assert parts(store, run) == {"delayed": 3}


def test_a_run_that_expires(store: Store) -> None:
    store.deploy()
    run = store.trigger(ttl=10).id
    store.now += 11
    store.sweep()
    assert parts(store, run) == {"queued": 11}


def test_a_run_with_phases_and_a_checkpoint(store: Store) -> None:
    store.deploy()
    run = store.trigger().id
    store.now += 2
    claimed = store.claim_one()
    store.now += 4
    placing = Placing(container="c1", number=1, seconds=0.5, cause="first")
    body = Started(token=claimed.token, start="cold", placing=placing, starting=1.0, importing=2.0)
    store.write(attempts.start, claimed.attempt, body)
    assert parts(store, run) == {"queued": 2, "placed": 0.5, "started": 1, "imported": 2, "handed_over": 0.5}
    store.now += 3
    store.write(checkpoints.put, claimed.attempt, claimed.token, "k", Stored("1", None, 1), 1.0)
    store.now += 1
    store.complete(claimed, held=0.25)
    store.now += 50
    assert parts(store, run) == {
        "queued": 2,
        "placed": 0.5,
        "started": 1,
        "imported": 2,
        "handed_over": 0.5,
        "ran": 3.75,
        "reported": 0.25,
    }
    found = traced(store, run)
    assert [span.kind for span in found.spans] == [
        *("run", "queued", "attempt", "placed", "started", "imported", "handed_over", "ran", "checkpoint"),
        "reported",
    ]
    checkpoint = found.spans[-2]
    assert (checkpoint.name, checkpoint.begin_ms, checkpoint.end_ms) == ("k", 8_000, 9_000)
    of_attempt = found.spans[2].of_attempt
    assert of_attempt is not None
    assert (of_attempt.start, of_attempt.cause, of_attempt.container) == ("cold", "first", "c1")


def test_a_retry_a_lost_attempt_and_a_wait(store: Store) -> None:
    retry = {"max_attempts": 5, "factor": 2, "min_delay": 20, "max_delay": 60, "jitter": False}
    store.deploy(task_entry("greet", retry=retry))
    claimed = store.started()
    run = claimed.run.id
    store.now += 1
    store.fail(claimed, retry=Retry(after=20))
    store.now += 5
    assert parts(store, run) == {"ran": 1, "back_off": 5}
    assert traced(store, run).spans[-1].ended_at is None
    store.now += 17
    store.sweep()
    assert parts(store, run) == {"ran": 1, "back_off": 20, "queued": 2}
    lost = store.claim_one()
    store.now += LEASE + 1
    store.sweep()
    # it never began: nobody has seen what was done with it
    assert parts(store, run) == {"ran": 1, "back_off": 20, "queued": 2, "other": LEASE + 1}
    store.now += 3
    again = store.claim_one()
    assert again.number == lost.number + 1
    store.start(again)
    store.now += 2
    store.wait(again, "sleep", seconds=100)
    store.now += 1
    store.suspend(again, "sleep")
    store.now += 50
    assert parts(store, run)["waiting"] == 50
    store.now += 60
    store.sweep()
    store.now += 4
    last = store.claim_one()
    store.start(last)
    store.now += 6
    store.complete(last)
    store.now += 1000
    assert parts(store, run) == {
        "queued": 2 + 3 + 4,
        "ran": 1 + 3 + 6,
        "waiting": 110,
        "back_off": 20,
        "other": LEASE + 1,
    }
    waits = [span for span in traced(store, run).spans if span.kind == "wait"]
    assert [(span.name, span.status, span.end_ms - span.begin_ms) for span in waits] == [("sleep", "done", 111_000)]


def test_a_run_that_is_canceled_while_it_waits(store: Store) -> None:
    store.deploy()
    claimed = store.suspended("sleep", seconds=100)
    store.now += 9
    store.cancel(claimed.run.id)
    store.now += 500
    assert parts(store, claimed.run.id) == {"waiting": 9}
    assert [s.status for s in traced(store, claimed.run.id).spans if s.kind == "wait"] == ["closed"]


def test_children_are_spans_and_too_many_are_counted(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    run = claimed.run.id
    store.wait(claimed, "run", key="one", name="greet", payload={})
    store.now += 5
    child = store.claim_one()
    store.start(child)
    store.now += 2
    store.complete(child)
    spans = {span.kind: span for span in traced(store, run).spans}
    assert (spans["child"].begin_ms, spans["child"].end_ms, spans["child"].status) == (0, 7_000, "completed")
    assert spans["child"].of_child is not None
    assert spans["child"].of_child.key == "one"
    assert (spans["wait"].name, spans["wait"].status) == ("one", "done")
    many: Any = [{"payload": {}}] * (TRACE_CHILDREN + 20)
    store.wait(claimed, "batch_trigger", key="many", name="greet", items=many)
    found = traced(store, run)
    check(found)
    assert sum(span.kind == "child" for span in found.spans) == TRACE_CHILDREN
    assert found.left_out.model_dump() == {"attempts": 0, "checkpoints": 0, "waits": 0, "children": 21}


def test_what_a_replay_took_over_is_none_of_its_time(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    store.write(checkpoints.put, claimed.attempt, claimed.token, "k", Stored("1", None, 1), 0.0)
    store.wait(claimed, "sleep", seconds=1)
    store.now += 2
    store.sweep()
    store.complete(claimed)
    store.now += 2
    plan = store.read(plans.plan_replay, claimed.run.id, ReplayRequest(from_checkpoint="sleep"), store.payloads)
    run = store.write(triggers.create, plan, plan.stored or Stored()).run.id
    store.now += 3
    store.complete(store.claim_one())
    assert parts(store, run) == {"queued": 3}
    assert "checkpoint" in kinds(store, claimed.run.id)
    assert not {"checkpoint", "wait"} & set(kinds(store, run))


def test_it_takes_no_more_statements_for_a_long_history(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    for n in range(TRACE_CHECKPOINTS + 3):
        store.write(checkpoints.put, claimed.attempt, claimed.token, f"k{n}", Stored("1", None, 1), 0.0)
    for n in range(5):
        store.wait(claimed, "sleep", key=f"w{n}", seconds=0)
        assert store.suspend(claimed, f"w{n}").status == "waiting"
        store.now += 1
        store.sweep()
        claimed = store.claim_one()
        store.start(claimed)
    watched = Watched(store)
    sent = watched.during(lambda: traced(store, claimed.run.id))
    assert 0 < len(sent) <= MOST
    found = traced(store, claimed.run.id)
    check(found)
    assert found.left_out.checkpoints == 3
    assert next(span.name for span in found.spans if span.kind == "checkpoint") == "k3"
