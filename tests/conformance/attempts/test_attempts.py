"""Attempts: every end they can come to, and that only the holder of the lease writes one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coordinator.attempts import attempts, checkpoints
from coordinator.foundation.errors import CoordinatorError, NotFound, StaleAttempt, TooLarge
from coordinator.foundation.limits import LEASE, PLATFORM_RETRIES
from coordinator.runs import logs, runs, views
from coordinator.storage.values import Stored, decode
from coordinator.wire import (
    AttemptLogLine,
    Curve,
    ErrorBody,
    Finish,
    MemoryCurve,
    NearLimit,
    NearProcess,
    Report,
    Retry,
    Started,
)
from tests.conformance.store import GIB, MIB, Store, fixed, task_entry


def retrying(id: str = "greet", *, memory: int = 512 * MIB, **retry: Any) -> dict[str, Any]:
    """A task that is tried three times, two seconds and then four after a failure."""
    policy = {"max_attempts": 3, "factor": 2, "min_delay": 2, "max_delay": 60, "jitter": False, **retry}
    return task_entry(id, retry=policy, memory=memory)


def line(seq: int, message: str = "hello", *, partial: bool = False, replaces: int | None = None) -> AttemptLogLine:
    given: dict[str, Any] = {"seq": seq, "message": message, "partial": partial, "replaces": replaces}
    return AttemptLogLine(at=1.5, level="info", stream="stdout", **given)


def test_from_claim_to_result(store: Store) -> None:
    store.deploy()
    run = store.trigger()
    claimed = store.claim_one()
    store.now += 0.25
    store.start(claimed)
    store.now += 1.5
    ended = store.complete(claimed, {"total": 3}, peak_memory_bytes=20 * MIB, lines=[line(0), line(1)])
    assert (ended.run, ended.status, ended.final) == (run.id, "completed", True)
    after = store.run(run.id)
    assert (after.status, after.result, after.error) == ("completed", '{"total":3}', None)
    assert (after.start_ms, after.run_ms, after.start) == (250, 1500, "cold")
    assert (after.peak_memory, after.memory_limit, after.finished_at) == (20 * MIB, 512 * MIB, store.now)
    assert [row.message for row in store.read(logs.read, run.id)] == ["hello", "hello"]
    assert store.attempts(run.id)[0].status == "completed"
    assert store.live_attempts() == 0


def test_a_start_said_twice_counts_once(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    begun = store.run(claimed.run.id)
    store.now += 5
    store.start(claimed)
    assert store.run(claimed.run.id) == begun


def test_a_failure_without_retries_is_the_end(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    assert store.fail(claimed).status == "failed"
    after = store.run(claimed.run.id)
    assert decode(after.error) == {"type": "ValueError", "message": "no", "traceback": None, "reason": "exception"}


def test_retries_back_off_and_then_end(store: Store) -> None:
    store.deploy(retrying())
    claimed = store.started()
    for delay in (2, 4):
        ended = store.fail(claimed)
        assert (ended.status, ended.due_at) == ("delayed", store.now + delay)
        assert store.claim() == []
        store.now += delay
        store.sweep()
        claimed = store.claim_one()
        assert store.run(claimed.run.id).queued_ms == 0
    assert store.fail(claimed).status == "failed"
    assert [a.status for a in store.attempts(claimed.run.id)] == ["failed"] * 3


def test_what_the_exception_says_goes_before_the_policy(store: Store) -> None:
    store.deploy(retrying())
    claimed = store.started()
    assert store.fail(claimed, retry=Retry(after=30)).due_at == store.now + 30
    assert store.fail(store.started(), retry=Retry(allowed=False)).status == "failed"


def test_a_timeout_is_tried_again_and_ends_as_timed_out(store: Store) -> None:
    store.deploy(retrying(max_attempts=2))
    claimed = store.started()
    assert store.fail(claimed, "timeout").status == "delayed"
    store.now += 2
    store.sweep()
    assert store.lose(store.claim_one(), "timeout").status == "timed_out"
    assert decode(store.run(claimed.run.id).error)["reason"] == "timeout"


def test_out_of_memory_is_tried_again_with_more(store: Store) -> None:
    store.deploy(retrying(oom_memory=GIB))
    claimed = store.started()
    assert store.lose(claimed, "out_of_memory").status == "delayed"
    store.now += 2
    store.sweep()
    again = store.claim_one()
    assert (claimed.memory, again.memory) == (512 * MIB, GIB)
    # no more is to be had: the same again is worth nothing a second time
    assert store.lose(again, "out_of_memory").status == "failed"
    after = store.run(claimed.run.id)
    assert (decode(after.error)["reason"], after.memory_limit) == ("out_of_memory", GIB)


def test_more_memory_than_a_runner_gives_is_not_asked_for(store: Store) -> None:
    store.deploy(retrying(oom_memory=8 * GIB))
    store.heartbeat(task_memory=2 * GIB)
    store.lose(store.started(), "out_of_memory")
    store.now += 2
    store.sweep()
    assert store.claim_one().memory == 2 * GIB


def test_a_rejected_run_is_not_tried_again(store: Store) -> None:
    store.deploy(retrying())
    claimed = store.started()
    assert store.lose(claimed, "rejected").status == "failed"
    assert decode(store.run(claimed.run.id).error)["reason"] == "rejected"


def test_the_platform_has_a_budget_of_its_own(store: Store) -> None:
    store.deploy()
    run = store.trigger()
    for _ in range(PLATFORM_RETRIES):
        assert store.lose(store.claim_one()).status in ("queued", "delayed")
        store.now += 20
        store.sweep()
    claimed = store.claim_one()
    assert store.lose(claimed).status == "failed"
    after = store.run(run.id)
    assert (after.losses, after.failures) == (PLATFORM_RETRIES + 1, 0)
    assert decode(after.error)["reason"] == "lost"


def test_a_lost_run_goes_on_at_once_and_keeps_its_place(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    store.now += 1
    store.trigger()
    assert store.lose(claimed).status == "queued"
    again = store.claim_one()
    assert (again.run.id, again.number) == (claimed.run.id, 2)


def test_an_end_that_nobody_asked_for_is_the_platforms(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    body = Finish(token=claimed.token, outcome="canceled")
    assert store.write(attempts.finish, claimed.attempt, body, Stored()).status == "queued"
    assert store.attempts(claimed.run.id)[0].status == "lost"


@pytest.mark.parametrize("how", ["claimed", "token", "ended"])
def test_a_stale_attempt_writes_nothing(store: Store, how: str) -> None:
    store.deploy()
    claimed = store.started()
    attempt, token = claimed.attempt, claimed.token
    if how == "claimed":
        store.now += LEASE + 1
        store.sweep()
        store.claim_one("r2")
    elif how == "token":
        token += 1
    else:
        store.complete(claimed)
    before = store.run(claimed.run.id)

    def refused(function: Any, *args: Any) -> None:
        with pytest.raises(StaleAttempt) as error:
            store.write(function, *args)
        assert (error.value.code, error.value.status) == ("stale_attempt", 409)

    refused(attempts.start, attempt, Started(token=token, start="warm"))
    refused(checkpoints.put, attempt, token, "k", Stored("1", None, 1))
    refused(checkpoints.get, attempt, token, "k")
    refused(logs.append, attempt, token, [line(0)])
    refused(attempts.report, attempt, Report(token=token, progress={"fraction": 1}))
    refused(attempts.extend, attempt, token, 5.0)
    refused(attempts.finish, attempt, Finish(token=token, outcome="completed", result=9), Stored("9"))
    assert store.run(claimed.run.id) == before
    assert store.read(checkpoints.listing, claimed.run.id) == ([], None)
    assert store.read(logs.read, claimed.run.id) == []


def test_a_lease_that_ran_out_writes_no_checkpoint(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    store.now += LEASE
    with pytest.raises(StaleAttempt):
        store.write(checkpoints.put, claimed.attempt, claimed.token, "k", Stored("1", None, 1))
    assert store.read(checkpoints.listing, claimed.run.id) == ([], None)


def test_an_end_before_the_sweep_is_taken(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    store.now += LEASE + 60
    assert store.complete(claimed, 7).status == "completed"
    store.sweep()
    assert store.run(claimed.run.id).result == "7"


def test_the_same_end_twice_is_answered_twice(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    store.complete(claimed, {"n": 1})
    again = store.complete(claimed, {"n": 1})
    assert (again.status, again.repeated) == ("completed", True)
    with pytest.raises(StaleAttempt):
        store.complete(claimed, {"n": 2})
    assert store.run(claimed.run.id).result == '{"n":1}'


def test_a_repeated_failure_does_not_move_the_run_again(store: Store) -> None:
    store.deploy(retrying())
    claimed = store.started()
    store.fail(claimed)
    store.now += 2
    store.sweep()
    store.claim_one()
    assert store.fail(claimed).repeated
    after = store.run(claimed.run.id)
    assert (after.status, after.failures, after.attempts) == ("running", 1, 2)


def test_an_unknown_attempt_is_not_found(store: Store) -> None:
    body = Finish(token=1, outcome="completed")
    with pytest.raises(NotFound):
        store.write(attempts.finish, "att_none", body, Stored())


# ---------------------------------------------------------------- checkpoints, logs, reports


def test_the_first_writer_of_a_key_wins(store: Store) -> None:
    store.deploy()
    claimed = store.started()

    def put(text: str) -> checkpoints.Kept:
        return store.write(checkpoints.put, claimed.attempt, claimed.token, "k", Stored(text, None, len(text)))

    assert put("1") == (True, Stored("1", None, 1))
    assert put("1") == (True, Stored("1", None, 1))  # sent again after a lost answer
    assert put("2") == (False, Stored("1", None, 1))
    ((row,), _) = store.read(checkpoints.listing, claimed.run.id)
    assert (row.key, row.value, row.attempt, row.position) == ("k", "1", 1, 1)


def test_a_checkpoint_begins_within_its_attempt_whatever_its_container_says(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    began = store.now
    store.now += 10
    for key, took in (("told", 4.0), ("huge", 1e9), ("none", 0.0), ("before", -5.0), ("unknown", None)):
        store.write(checkpoints.put, claimed.attempt, claimed.token, key, Stored("1", None, 1), took)
    rows, _ = store.read(checkpoints.listing, claimed.run.id)
    found = {row.key: row.begun_at for row in rows}
    assert found == {
        "told": store.now - 4,
        "huge": began,
        "none": store.now,
        "before": store.now,
        "unknown": None,
    }
    # the same again, and another for a key that is there, change nothing
    store.now += 1
    store.write(checkpoints.put, claimed.attempt, claimed.token, "told", Stored("1", None, 1), 0.5)
    assert {row.key: row.begun_at for row in store.read(checkpoints.listing, claimed.run.id)[0]} == found


def test_a_checkpoint_outlives_its_attempt(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    store.write(checkpoints.put, claimed.attempt, claimed.token, "k", Stored("1", None, 1))
    store.lose(claimed)
    again = store.claim_one()
    assert again.checkpoints == [("k", Stored("1", None, 1))]
    assert store.read(checkpoints.get, again.attempt, again.token, "k") == Stored("1", None, 1)
    assert store.read(checkpoints.get, again.attempt, again.token, "other") is None
    kept = store.write(checkpoints.put, again.attempt, again.token, "k", Stored("2", None, 1))
    assert kept == (False, Stored("1", None, 1))


def test_the_curve_that_was_told_last_is_kept(store: Store) -> None:
    store.deploy()
    claimed = store.started()

    def tell(*points: int) -> None:
        body = Report(token=claimed.token, curve=Curve(interval_ms=250, points=list(points)))
        store.write(attempts.report, claimed.attempt, body)

    def kept(number: int = 0) -> MemoryCurve | None:
        return views.attempt(store.attempts(claimed.run.id)[number]).usage.curve

    assert kept() is None
    tell(1, 2)
    tell(1, 2, 3)
    told = MemoryCurve(interval_ms=250, points=[65536, 2 * 65536, 3 * 65536])
    assert kept() == told
    store.lose(claimed)
    assert kept() == told, "of a container that could not say its end"
    with pytest.raises(StaleAttempt):
        tell(9)
    again = store.claim_one()
    store.start(again)
    store.complete(again, curve=Curve(interval_ms=500, points=[4]))
    assert store.complete(again).repeated, "an end is the same whatever is seen of memory"
    assert (kept(), kept(1)) == (told, MemoryCurve(interval_ms=500, points=[4 * 65536]))


def test_who_held_the_memory_is_kept_with_the_curve(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    process = NearProcess(pid=7, name="\x1b[31m\x00</td>\u202e", memory=9)
    near = NearLimit(at_ms=250, memory=100, scratch=60, processes=[process], killed=True)
    body = Report(token=claimed.token, curve=Curve(interval_ms=250, points=[1], near=near))
    store.write(attempts.report, claimed.attempt, body)
    usage = views.attempt(store.attempts(claimed.run.id)[0]).usage
    assert usage.curve is not None
    assert usage.held is not None
    assert (usage.held.scratch_bytes, usage.held.memory_bytes, usage.held.killed) == (60, 100, True)
    assert [(one.pid, one.name, one.memory_bytes) for one in usage.held.processes] == [(7, process.name, 9)]
    store.write(
        attempts.report, claimed.attempt, Report(token=claimed.token, curve=Curve(interval_ms=250, points=[1]))
    )
    assert views.attempt(store.attempts(claimed.run.id)[0]).usage.held is None


def test_lines_are_kept_once_and_in_order(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    store.write(logs.append, claimed.attempt, claimed.token, [line(0, "a"), line(1, "b")])
    store.write(logs.append, claimed.attempt, claimed.token, [line(1, "b"), line(2, "c\x00")])
    store.lose(claimed)
    again = store.claim_one()
    store.write(logs.append, again.attempt, again.token, [line(0, "d")])
    rows = store.read(logs.read, claimed.run.id)
    assert [row.message.replace("\ufffd", "?") for row in rows] == ["a", "b", "c?", "d"]
    cursor = logs.parse_cursor(logs.cursor_text(rows[1]))
    assert len(store.read(logs.read, claimed.run.id, cursor)) == 2


def test_a_line_that_has_not_ended_is_replaced_by_what_it_becomes(store: Store) -> None:
    store.deploy()
    claimed = store.started()

    def append(*lines: AttemptLogLine) -> None:
        store.write(logs.append, claimed.attempt, claimed.token, list(lines))

    def seen(after: logs.Cursor = logs.START) -> list[tuple[int, str, bool]]:
        return [(row.seq, row.message, row.partial) for row in store.read(logs.read, claimed.run.id, after)]

    append(line(1, "a"), line(2, "10%", partial=True))
    assert seen() == [(1, "a", False), (2, "10%", True)]
    # a reader that has seen the line gets what it has become
    second = line(3, "20%", partial=True, replaces=2)
    append(second)
    assert seen((1, 2)) == [(3, "20%", True)]
    last = line(5, "100%", replaces=3)
    append(line(4, "b"), last)
    assert seen() == [(1, "a", False), (4, "b", False), (5, "100%", False)]
    # what is sent again is there once
    append(line(2, "10%", partial=True), second, line(4, "b"), last)
    assert seen() == [(1, "a", False), (4, "b", False), (5, "100%", False)]
    # only what has not ended can be replaced, and only by what comes later
    append(line(6, "c", replaces=1), line(7, "d", partial=True, replaces=9), line(8, "e", replaces=8))
    assert [seq for seq, _, _ in seen()] == [1, 4, 5, 6, 7, 8]


def test_progress_replaces_and_metadata_merges(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    for body in (
        Report(token=claimed.token, progress={"fraction": 0.1}, metadata={"a": 1}),
        Report(token=claimed.token, progress={"fraction": 0.9}),
        Report(token=claimed.token, metadata={"b": 2}),
    ):
        store.write(attempts.report, claimed.attempt, body)
    after = store.run(claimed.run.id)
    assert (decode(after.progress), decode(after.metadata)) == ({"fraction": 0.9}, {"a": 1, "b": 2})
    with pytest.raises(TooLarge, match="metadata"):
        store.write(attempts.report, claimed.attempt, Report(token=claimed.token, metadata={"c": "x" * 70_000}))


# ---------------------------------------------------------------- cancel


def test_a_run_that_has_not_begun_is_canceled_at_once(store: Store) -> None:
    store.deploy()
    for options in ({}, {"delay": 60}, {"ttl": 60}):
        run = store.trigger(**options)
        canceled = store.cancel(run.id)
        assert (canceled.run.status, canceled.changed) == ("canceled", True)
    assert store.claim() == []
    store.now += 120
    assert store.sweep().next_due is None


def test_a_running_run_is_asked_to_end(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    canceled = store.cancel(claimed.run.id)
    assert (canceled.run.status, canceled.changed) == ("running", False)
    assert "commands:r1" in canceled.topics
    body = Finish(token=claimed.token, outcome="canceled")
    assert store.write(attempts.finish, claimed.attempt, body, Stored()).status == "canceled"
    assert decode(store.run(claimed.run.id).error)["reason"] == "canceled"


@pytest.mark.parametrize("reason", ["lost", "exception", "out_of_memory", "timeout", "canceled"])
def test_a_canceled_run_never_starts_again(store: Store, reason: str) -> None:
    store.deploy(retrying())
    claimed = store.started()
    store.cancel(claimed.run.id)
    assert store.lose(claimed, reason).status == "canceled"


def test_a_result_that_was_there_first_stays(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    store.cancel(claimed.run.id)
    assert store.complete(claimed, 1).status == "completed"
    again = store.cancel(claimed.run.id)
    assert (again.run.status, again.changed, again.topics) == ("completed", False, frozenset())


def test_canceling_nothing_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        store.cancel("run_none")


# ---------------------------------------------------------------- races


@pytest.mark.parametrize("turn", range(6))
def test_finish_cancel_and_sweep_at_once_give_one_outcome(store: Store, turn: int) -> None:
    store.deploy(retrying())
    made = [store.started() for _ in range(6)]
    store.now += LEASE + 1

    def attempt(step: Any) -> str | None:
        try:
            return str(step())
        except CoordinatorError as error:
            return error.code

    def finish(claimed: Any) -> Any:
        return lambda: store.complete(claimed, "done").status

    def cancel(claimed: Any) -> Any:
        return lambda: store.cancel(claimed.run.id).run.status

    steps: list[Any] = []
    for claimed in made:
        steps += [finish(claimed), cancel(claimed)]
        steps.insert((turn * 5) % len(steps), lambda: store.sweep().topics)
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(attempt, steps))
    assert "internal" not in said
    finished = [s for step, s in zip(steps, said, strict=True) if step.__qualname__.startswith("test_")]
    assert finished
    for claimed in made:
        run = store.run(claimed.run.id)
        (attempt_row,) = store.attempts(run.id)
        if run.status == "completed":
            assert (run.result, attempt_row.status) == ('"done"', "completed")
        else:
            # the sweep was first: canceled where the cancel had come before it, or came while it was queued
            assert (run.status, run.result, attempt_row.status) == ("canceled", None, "lost")
    assert store.live_attempts() == 0


def test_two_ends_at_once_count_once(store: Store) -> None:
    store.deploy(retrying())
    claimed = store.started()

    def end(n: int) -> str:
        body = Finish(token=claimed.token, outcome="failed", error=ErrorBody(type="E", message=f"number {n}"))
        try:
            return store.write(attempts.finish, claimed.attempt, body, Stored(), fixed(0)).status
        except StaleAttempt as error:
            return error.code

    with ThreadPoolExecutor(8) as pool:
        said = sorted(pool.map(end, range(8)))
    assert said == ["delayed"] + ["stale_attempt"] * 7
    assert store.read(runs.get, claimed.run.id).failures == 1


def test_checkpoints_of_a_run_are_bounded_and_paged(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.deploy()
    claimed = store.started()

    def put(key: str, value: str) -> checkpoints.Kept:
        text = f'"{value}"'
        return store.write(checkpoints.put, claimed.attempt, claimed.token, key, Stored(text, None, len(text)))

    monkeypatch.setattr(checkpoints, "MAX_CHECKPOINTS", 5)
    monkeypatch.setattr(checkpoints, "MAX_CHECKPOINT_BYTES", 60)
    monkeypatch.setattr(checkpoints, "CHECKPOINT_PAGE", 25)
    for n in range(4):
        assert put(f"k{n}", "x" * 8).stored
    with pytest.raises(TooLarge, match="checkpoint 'big': with its 22 bytes"):
        put("big", "x" * 20)
    assert put("k4", "x" * 8).stored
    with pytest.raises(TooLarge, match="checkpoint 'k5': the run has 5 checkpoints, which is the limit"):
        put("k5", "")
    assert put("k4", "x" * 8).stored, "a key that is there is still answered"
    assert not put("k0", "other").stored

    def pages(limit: int) -> list[list[str]]:
        found, after = [], 0
        while True:
            rows, following = store.read(checkpoints.listing, claimed.run.id, after, limit)
            found.append([row.key for row in rows])
            if following is None:
                return found
            after = following

    assert pages(100) == [["k0", "k1", "k2"], ["k3", "k4"]]
    assert pages(2) == [["k0", "k1"], ["k2", "k3"], ["k4"]]
    assert pages(5) == [["k0", "k1", "k2"], ["k3", "k4"]]
