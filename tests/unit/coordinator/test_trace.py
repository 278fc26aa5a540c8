"""The trace of a run as a pure function: of histories as they come, and of rows that no coordinator would write."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.foundation.limits import TRACE_ATTEMPTS
from coordinator.runs import trace
from coordinator.runs.trace import History
from tests.traced import check

BEGAN = 1_800_000_000.0
PHASES = ("queued_ms", "placed_ms", "starting_ms", "importing_ms", "handed_ms", "ran_ms", "reported_ms")


def run_row(**values: Any) -> Any:
    plain = {
        "id": "run_1",
        "task": "greet",
        "project": "orders",
        "status": "completed",
        "trace_id": "0" * 32,
        "created_at": BEGAN,
        "queued_at": BEGAN,
        "finished_at": None,
        "attempts": 0,
    }
    return SimpleNamespace(**{**plain, **values})


def attempt_row(number: int, **values: Any) -> Any:
    plain = {
        "id": f"att_{number}",
        "number": number,
        "status": "completed",
        "runner": "r1",
        "claimed_at": BEGAN,
        "started_at": None,
        "finished_at": None,
        **dict.fromkeys(PHASES),
        **dict.fromkeys(("start", "cause", "evicted_by_project", "evicted_by_task", "container")),
        **dict.fromkeys(("container_run", "exit_code")),
    }
    return SimpleNamespace(**{**plain, **values})


def checkpoint_row(key: str, **values: Any) -> Any:
    plain = {"run_id": "run_1", "key": key, "size": 1, "attempt_id": "att_1", "attempt": 1, "begun_at": None}
    return SimpleNamespace(**{**plain, **values})


def wait_row(key: str, **values: Any) -> Any:
    plain = {"run_id": "run_1", "key": key, "kind": "sleep", "name": None, "due_at": None, "attempt": 1}
    return SimpleNamespace(**{**plain, **values})


def child_row(id: str, **values: Any) -> Any:
    plain = {"id": id, "task": "part", "parent_key": "k", "detached": False, "started_at": None}
    return SimpleNamespace(**{**plain, **values})


#: Times as a clock that is set to and fro would give them, and milliseconds that fit none of them.
TIMES = st.one_of(
    st.floats(-50, 500).map(lambda s: BEGAN + s), st.sampled_from([0.0, BEGAN, BEGAN + 1e-7, BEGAN + 1e9])
)
MAYBE = st.none() | TIMES
SPENT = st.none() | st.floats(0, 1e6) | st.sampled_from([0.0, 1e-9, 1e12])
STATUSES = st.sampled_from(["claimed", "running", "completed", "failed", "lost", "suspended", "canceled"])
RUN_STATUSES = st.sampled_from(["queued", "delayed", "running", "waiting", "completed", "canceled", "expired"])


@st.composite
def histories(draw: st.DrawFn) -> tuple[History, float]:
    first = draw(st.sampled_from([1, 1, 5]))
    attempts = [
        attempt_row(
            first + n,
            status=draw(STATUSES),
            claimed_at=draw(TIMES),
            started_at=draw(MAYBE),
            finished_at=draw(MAYBE),
            **{name: draw(SPENT) for name in PHASES},
        )
        for n in range(draw(st.integers(0, 4)))
    ]
    run = run_row(
        status=draw(RUN_STATUSES),
        queued_at=draw(TIMES),
        finished_at=draw(MAYBE),
        attempts=first - 1 + len(attempts),
    )
    named = [row.id for row in attempts] + ["att_of_another_run"]
    some = st.integers(0, 3)
    checkpoints = [
        checkpoint_row(
            f"c{n}", attempt_id=draw(st.sampled_from(named)), begun_at=draw(MAYBE), created_at=draw(TIMES)
        )
        for n in range(draw(some))
    ]
    waits = [
        wait_row(
            f"w{n}",
            status=draw(st.sampled_from(["pending", "done", "closed"])),
            created_at=draw(TIMES),
            resolved_at=draw(MAYBE),
        )
        for n in range(draw(some))
    ]
    children = [
        child_row(f"run_{n + 2}", status=draw(RUN_STATUSES), created_at=draw(TIMES), finished_at=draw(MAYBE))
        for n in range(draw(some))
    ]
    return History(run, attempts, checkpoints, waits, children), draw(TIMES)


@settings(max_examples=500, deadline=None)
@given(histories())
def test_the_ledger_adds_up_and_every_span_lies_in_its_parent_whatever_the_rows_hold(
    made: tuple[History, float],
) -> None:
    history, now = made
    found = trace.build(history, now)
    check(found)
    assert trace.build(history, now) == found


def test_the_parts_of_a_run_with_a_retry_and_a_wait() -> None:
    attempts = [
        attempt_row(
            1,
            status="failed",
            claimed_at=BEGAN + 12,
            started_at=BEGAN + 15,
            finished_at=BEGAN + 20,
            queued_ms=2_000,
            placed_ms=500,
            starting_ms=1_000,
            importing_ms=1_200,
            handed_ms=300,
            ran_ms=4_900,
            reported_ms=100,
        ),
        attempt_row(
            2,
            status="suspended",
            claimed_at=BEGAN + 26,
            started_at=BEGAN + 26.5,
            finished_at=BEGAN + 27,
            queued_ms=1_000,
            placed_ms=100,
            starting_ms=0,
            importing_ms=0,
            handed_ms=400,
            ran_ms=500,
            reported_ms=0,
        ),
        attempt_row(3, claimed_at=BEGAN + 100, started_at=BEGAN + 101, finished_at=BEGAN + 103, queued_ms=3_000),
    ]
    run = run_row(finished_at=BEGAN + 103, queued_at=BEGAN + 97, attempts=3)
    found = trace.build(History(run, attempts), BEGAN + 1000)
    assert check(found) == {
        "delayed": 10_000,
        "queued": 6_000,
        "placed": 600,
        "started": 1_000,
        "imported": 1_200,
        "handed_over": 700,
        "ran": 7_400,
        "waiting": 70_000,
        "back_off": 5_000,
        "reported": 100,
        "other": 1_000,
    }
    shown = [(span.kind, span.attempt, span.begin_ms, span.end_ms) for span in found.spans if span.attempt == 2]
    assert shown == [
        ("back_off", 2, 20_000, 25_000),
        ("queued", 2, 25_000, 26_000),
        ("attempt", 2, 26_000, 27_000),
        ("placed", 2, 26_000, 26_100),
        ("handed_over", 2, 26_100, 26_500),
        ("ran", 2, 26_500, 27_000),
    ]


def test_a_child_that_outlives_its_run_is_cut_there_and_keeps_its_own_times() -> None:
    run = run_row(finished_at=BEGAN + 10, attempts=1)
    attempt = attempt_row(1, started_at=BEGAN + 1, finished_at=BEGAN + 10, queued_ms=0.0)
    child = child_row("run_2", status="completed", created_at=BEGAN + 5, finished_at=BEGAN + 60)
    found = trace.build(History(run, [attempt], children=[child]), BEGAN + 100)
    check(found)
    (span,) = [span for span in found.spans if span.kind == "child"]
    assert (span.begin_ms, span.end_ms, span.parent) == (5_000, 10_000, found.spans[0].id)
    assert span.of_child is not None
    assert span.of_child.finished_at == "2027-01-15T08:01:00.000Z"


def test_a_checkpoint_lies_in_what_its_attempt_ran() -> None:
    run = run_row(finished_at=BEGAN + 10, attempts=1)
    attempt = attempt_row(1, started_at=BEGAN + 1, finished_at=BEGAN + 10, queued_ms=0.0, reported_ms=2_000)
    rows = [
        checkpoint_row("told", begun_at=BEGAN + 2, created_at=BEGAN + 4),
        checkpoint_row("late", begun_at=BEGAN + 7, created_at=BEGAN + 9),
        checkpoint_row("untold", created_at=BEGAN + 3),
        checkpoint_row("copied", attempt_id="att_0", begun_at=BEGAN - 9, created_at=BEGAN - 8),
    ]
    found = trace.build(History(run, [attempt], rows), BEGAN + 100)
    check(found)
    ran = next(span for span in found.spans if span.kind == "ran")
    shown = {span.name: (span.parent, span.begin_ms, span.end_ms) for span in found.spans if span.size_bytes}
    assert shown == {
        "told": (ran.id, 2_000, 4_000),
        "late": (ran.id, 7_000, 8_000),
        "untold": (ran.id, 3_000, 3_000),
    }


def test_of_many_attempts_the_latest_are_shown_and_all_are_counted() -> None:
    attempts = [
        attempt_row(
            n + 1,
            status="failed",
            claimed_at=BEGAN + 10 * n,
            started_at=BEGAN + 10 * n + 1,
            finished_at=BEGAN + 10 * n + 9,
            queued_ms=0.0,
            placed_ms=1_000,
        )
        for n in range(TRACE_ATTEMPTS + 30)
    ]
    run = run_row(finished_at=attempts[-1].finished_at, attempts=len(attempts))
    found = trace.build(History(run, attempts), BEGAN + 10_000)
    parts = check(found)
    assert parts == {"placed": 1_000 * 80, "ran": 8_000 * 80, "back_off": 1_000 * 79}
    shown = [span.attempt for span in found.spans if span.kind == "attempt"]
    assert shown == list(range(31, 81))
