"""Where an attempt's time went, and how it came to its container, as it is stored."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.attempts import attempts
from coordinator.attempts.claims import Claimed
from coordinator.foundation import sight
from coordinator.runs import views
from coordinator.storage.values import Stored
from coordinator.wire import Finish, Lost, Phases, Placing, Started, Whose
from tests.conformance.store import Store, fixed

PLACING = Placing(
    container="c1",
    seconds=0.125,
    number=3,
    cause="evicted",
    evicted_by=Whose(project="other", task="report"),
)


def started(store: Store, claimed: Claimed, **fields: Any) -> None:
    body = Started(token=claimed.token, **{"start": "cold", "placing": PLACING, **fields})
    store.write(attempts.start, claimed.attempt, body)


def test_the_phases_add_up_to_the_whole(store: Store) -> None:
    store.deploy()
    run = store.trigger()
    triggered = store.now
    store.now += 2
    claimed = store.claim_one()
    store.now += 1
    started(store, claimed, starting=0.5, importing=0.25)
    store.now += 4
    body = Finish(token=claimed.token, outcome="completed", held=0.5)
    store.write(attempts.finish, claimed.attempt, body, Stored("null"), fixed(0.0), 0.25)
    after = store.run(run.id)
    shown = views.timings(after)
    assert shown.phases == Phases(
        queued_ms=2000, placed_ms=125, started_ms=500, imported_ms=250,
        handed_over_ms=125, ran_ms=3250, reported_ms=750,
    )  # fmt: skip
    parts = shown.phases.model_dump().values()
    assert sum(parts) == pytest.approx(1000 * (after.finished_at - triggered))
    # what was there before stays what it was
    assert (shown.queued_ms, shown.start_ms, shown.run_ms, shown.start) == (2000, 1000, 3750, "cold")
    (attempt,) = map(views.attempt, store.attempts(run.id))
    assert attempt.phases == shown.phases
    assert (attempt.cause, attempt.container, attempt.container_run) == ("evicted", "c1", 3)


def test_who_took_the_place_is_named_to_those_alone_who_may_know_the_project(store: Store) -> None:
    store.deploy()
    run = store.trigger()
    claimed = store.claim_one()
    started(store, claimed, starting=0.0, importing=0.0)
    assert views.timings(store.run(run.id)).evicted_by == PLACING.evicted_by
    seen = sight.project.set("orders")
    try:
        shown = views.timings(store.run(run.id))
        (attempt,) = map(views.attempt, store.attempts(run.id))
    finally:
        sight.project.reset(seen)
    assert (shown.cause, shown.evicted_by, attempt.evicted_by) == ("evicted", None, None)
    assert "other" not in shown.model_dump_json() + attempt.model_dump_json()


def test_each_attempt_has_its_own_and_the_run_shows_the_last(store: Store) -> None:
    store.deploy()
    run = store.trigger()
    first = store.claim_one()
    started(store, first, starting=0.5, importing=0.5)
    store.lose(first)
    store.now += 3
    store.sweep()
    second = store.claim_one()
    assert views.timings(store.run(run.id)).phases == Phases(queued_ms=3000), "it has come to nothing yet"
    started(store, second, start="waited", placing=None, starting=0.0, importing=0.0)
    shown = [views.attempt(row) for row in store.attempts(run.id)]
    assert [(a.start, a.cause, a.phases.placed_ms) for a in shown] == [
        ("cold", "evicted", 125.0), ("waited", None, None)
    ]  # fmt: skip
    assert views.timings(store.run(run.id)).start == "waited"


def test_an_attempt_that_never_began_says_how_it_was_placed(store: Store) -> None:
    store.deploy()
    store.trigger()
    claimed = store.claim_one()
    body = Lost(token=claimed.token, reason="exception", message="no module", start="cold", placing=PLACING)
    store.write(attempts.lost, claimed.attempt, body, fixed(0.0))
    (attempt,) = map(views.attempt, store.attempts(claimed.run.id))
    assert (attempt.start, attempt.cause, attempt.phases.placed_ms) == ("cold", "evicted", 125.0)
    assert (attempt.phases.started_ms, attempt.phases.ran_ms) == (None, None)


def test_one_that_began_is_not_told_anew_by_its_runner(store: Store) -> None:
    store.deploy()
    store.trigger()
    claimed = store.claim_one()
    started(store, claimed, start="warm", placing=None, starting=0.0, importing=0.0)
    body = Lost(token=claimed.token, reason="lost", message="gone", start="cold", placing=PLACING)
    store.write(attempts.lost, claimed.attempt, body, fixed(0.0))
    (attempt,) = map(views.attempt, store.attempts(claimed.run.id))
    assert (attempt.start, attempt.cause) == ("warm", None)


def test_a_finish_said_again_is_the_same_however_long_it_was_held(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    body = Finish(token=claimed.token, outcome="completed", held=0.1)
    assert not store.write(attempts.finish, claimed.attempt, body, Stored("null")).repeated
    again = body.model_copy(update={"held": 7.0})
    assert store.write(attempts.finish, claimed.attempt, again, Stored("null")).repeated
