"""The checkers are checked: each of these bugs, put into the store, has to be found by random histories."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from sqlalchemy import Connection, Row, delete, select, update

from coordinator.access import leases
from coordinator.attempts import checkpoints, claims
from coordinator.foundation import ids
from coordinator.line import lanes, queues
from coordinator.maintenance import sweep
from coordinator.runs import endings, failures, triggers
from coordinator.sources import schedules
from coordinator.storage.tables import attempts as attempts_table
from coordinator.storage.tables import checkpoints as checkpoints_table
from coordinator.storage.tables import runs as runs_table
from coordinator.storage.tables import ticks
from coordinator.storage.tables import waits as waits_table
from coordinator.tasks import retries
from coordinator.waits import event_waits, waits
from tests.conformance.histories import hunters, on_sqlite

Plant = Callable[[pytest.MonkeyPatch], None]
EXAMPLES = 3000


def token_predicate_dropped(patch: pytest.MonkeyPatch) -> None:
    """Any attempt of the run may write, whatever its token and lease."""

    def require(conn: Connection, now: float, attempt_id: str, token: int) -> Row[Any]:
        return conn.execute(select(attempts_table).where(attempts_table.c.id == attempt_id)).one()

    patch.setattr(leases, "require", require)


def limit_checked_outside_the_transaction(patch: pytest.MonkeyPatch) -> None:
    """Occupancy as it was when somebody looked last."""
    real = queues.running
    # (each history numbers its ids anew, with a function of its own)
    seen: WeakKeyDictionary[Any, dict[Any, int]] = WeakKeyDictionary()

    def running(conn: Connection, project: str, name: str, key: str | None = None) -> int:
        known = seen.setdefault(ids.new, {})
        before, known[project, name, key] = known.get((project, name, key), 0), real(conn, project, name, key)
        return before

    patch.setattr(queues, "running", running)


def local_clock_for_leases(patch: pytest.MonkeyPatch) -> None:
    """A host whose clock is ten seconds ahead."""
    real = claims.claim
    patch.setattr(
        claims, "claim", lambda conn, now, *rest, **named: real(conn, now + 10, *rest, **named), raising=True
    )


def reply_before_commit(patch: pytest.MonkeyPatch) -> None:
    """Every seventh trigger is answered and not kept."""
    real = triggers.create

    def create(conn: Connection, now: float, *rest: Any, **named: Any) -> Any:
        made = real(conn, now, *rest, **named)
        if int(made.run.id[-3:]) % 7 == 6:
            conn.execute(delete(runs_table).where(runs_table.c.id == made.run.id))
        return made

    patch.setattr(triggers, "create", create)


def tick_without_its_unique_key(patch: pytest.MonkeyPatch) -> None:
    """A tick that was fired before is fired again."""
    real = schedules._fire

    def fire(conn: Connection, now: float, row: Row[Any], at: float, *rest: Any) -> Any:
        conn.execute(update(ticks).where(ticks.c.at == at).values(at=at - 1e-3))
        return real(conn, now, row, at, *rest)

    patch.setattr(schedules, "_fire", fire)


def event_matched_twice(patch: pytest.MonkeyPatch) -> None:
    """A wait looks at all events of its run's time, and not at which of them another wait has taken."""
    real = event_waits._taken

    def taken(conn: Connection, run: Row[Any], name: str, wanted: Any) -> dict[str, Any]:
        mine = (waits_table.c.run_id == run.id) & waits_table.c.event.is_not(None)
        kept = conn.execute(select(waits_table.c.key, waits_table.c.event).where(mine)).all()
        conn.execute(update(waits_table).where(mine).values(event=None))
        found = real(conn, run, name, wanted)
        for key, event in kept:
            conn.execute(update(waits_table).where(mine | (waits_table.c.key == key)).values(event=event))
        return found

    patch.setattr(event_waits, "_taken", taken)


def wait_resolved_before_the_suspension(patch: pytest.MonkeyPatch) -> None:
    """A suspension does not look whether what it waits for has happened."""
    patch.setattr(waits, "suspend", lambda conn, run, keys: "pending")


def parent_not_woken(patch: pytest.MonkeyPatch) -> None:
    """The end of a child is told to nobody."""
    patch.setattr(endings, "_tell_parent", lambda conn, now, run, queued: set())


def parent_woken_by_the_first_child(patch: pytest.MonkeyPatch) -> None:
    """A batch is over when one of its runs is."""

    def tell(conn: Connection, now: float, run: Row[Any], queued: list[Row[Any]]) -> set[str]:
        return waits.resolve_children(conn, now, run.parent, [run.parent_key], queued)

    patch.setattr(endings, "_tell_parent", tell)


def canceled_run_begins_anew(patch: pytest.MonkeyPatch) -> None:
    """How an attempt ended decides, and not that somebody has canceled the run."""
    real = retries.decide
    patch.setattr(
        retries,
        "decide",
        lambda end, so_far, *rest, **named: real(end, replace(so_far, cancel_requested=False), *rest, **named),
    )


def lost_attempts_stay(patch: pytest.MonkeyPatch) -> None:
    """A lease that runs out is seen by nobody."""
    patch.setattr(sweep, "leases", lambda conn, now, rng, queued: set())


def line_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A run that is tried again is queued, and no claim is told."""
    real = lanes.enter
    patch.setattr(lanes, "enter", lambda conn, queued: real(conn, [run for run in queued if run.attempts == 0]))


def checkpoint_overwritten(patch: pytest.MonkeyPatch) -> None:
    """The last value of a key holds, and not the first."""

    def find(conn: Connection, run: str, key: str) -> None:
        table = checkpoints_table
        conn.execute(delete(table).where(table.c.run_id == run, table.c.key == key))

    patch.setattr(checkpoints, "_find", find)


def idempotency_key_not_kept(patch: pytest.MonkeyPatch) -> None:
    """Two triggers with one key are two runs."""
    real = triggers._values
    patch.setattr(triggers, "_values", lambda *rest, **named: real(*rest, **named) | {"idempotency_key": None})


def failure_told_twice(patch: pytest.MonkeyPatch) -> None:
    """The handler of a failed run runs twice."""
    real = failures.tell
    patch.setattr(failures, "tell", lambda *rest: real(*rest) | real(*rest))


BUGS: list[Plant] = [
    token_predicate_dropped,
    limit_checked_outside_the_transaction,
    local_clock_for_leases,
    reply_before_commit,
    tick_without_its_unique_key,
    event_matched_twice,
    wait_resolved_before_the_suspension,
    parent_not_woken,
    parent_woken_by_the_first_child,
    canceled_run_begins_anew,
    lost_attempts_stay,
    line_forgotten,
    checkpoint_overwritten,
    idempotency_key_not_kept,
    failure_told_twice,
]


#: With these its first histories show it; with the usual ones it is the twentieth to the fiftieth that does.
SEEDS = {
    token_predicate_dropped: 8,
    limit_checked_outside_the_transaction: 0,
    canceled_run_begins_anew: 7,
    lost_attempts_stay: 1,
    failure_told_twice: 3,
}


@pytest.fixture(scope="module")
def hunts() -> Iterator[dict[str, Future[str | None]]]:
    """The search for each bug, all under way."""
    with hunters() as pool:
        yield {plant.__name__: pool.submit(on_sqlite, EXAMPLES, plant, SEEDS.get(plant)) for plant in BUGS}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("plant", BUGS, ids=lambda plant: str(plant.__name__))
def test_a_planted_bug_is_found(plant: Plant, hunts: dict[str, Future[str | None]]) -> None:
    found = hunts[plant.__name__].result()
    assert found is not None, f"{EXAMPLES} histories, and none shows it"
    assert "AssertionError" in found, found
