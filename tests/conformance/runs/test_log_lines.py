"""How much of a run's log is kept."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from coordinator.runs import logs, runs, views
from coordinator.storage.tables import LOG_LEVELS
from coordinator.wire import AttemptLogLine, LogCounts
from tests.conformance.store import Store


def line(
    seq: int, size: int, *, logger: str | None = None, partial: bool = False, replaces: int | None = None
) -> AttemptLogLine:
    return AttemptLogLine(
        seq=seq,
        at=0.0,
        level="info",
        stream="stdout",
        message="x" * size,
        logger=logger,
        partial=partial,
        replaces=replaces,
    )


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_OF_ATTEMPT", 10_000)
    monkeypatch.setattr(logs, "MOST_OF_RUN", 15_000)


def stored(store: Store, run: str) -> int:
    rows = store.read(logs.read, run, limit=10_000)
    return sum(len(row.message) + len(row.logger or "") for row in rows)


def test_an_attempt_has_so_many_bytes_of_lines_and_a_run_too(store: Store, small: None) -> None:
    store.deploy()
    claimed = store.started()
    for seq in range(40):
        store.write(logs.append, claimed.attempt, claimed.token, [line(seq, 900)])
    assert 8_000 < stored(store, claimed.run.id) <= 10_000
    store.lose(claimed)
    again = store.claim_one()
    store.write(logs.append, again.attempt, again.token, [line(seq, 900) for seq in range(40)])
    assert 12_000 < stored(store, claimed.run.id) <= 15_000


def test_everything_in_a_line_counts(store: Store, small: None) -> None:
    store.deploy()
    claimed = store.started()
    store.write(logs.append, claimed.attempt, claimed.token, [line(n, 0, logger="n" * 900) for n in range(40)])
    assert 8_000 < stored(store, claimed.run.id) <= 10_000
    store.write(logs.append, claimed.attempt, claimed.token, [line(n, 0) for n in range(100, 1000)])
    assert len(store.read(logs.read, claimed.run.id, limit=10_000)) < 130


def test_a_line_that_is_replaced_gives_its_room_back(store: Store, small: None) -> None:
    store.deploy()
    claimed = store.started()
    for seq in range(1, 60):
        moved = line(seq, 900, partial=True, replaces=seq - 1 or None)
        store.write(logs.append, claimed.attempt, claimed.token, [moved])
    store.write(logs.append, claimed.attempt, claimed.token, [line(60, 5, replaces=59)])
    assert [row.message for row in store.read(logs.read, claimed.run.id)] == ["xxxxx"]


def counted(store: Store, run: str, attempt: int | None = None) -> LogCounts:
    """The lines that are there, by level."""
    rows = [row for row in store.read(logs.read, run, limit=10_000) if attempt in (None, row.attempt)]
    return LogCounts(**Counter(logs.level_of(row.level) for row in rows))


def check_counts(store: Store, run: str) -> None:
    for row in store.attempts(run):
        assert views.log_counts(row) == counted(store, run, row.number)
    whole = counted(store, run)
    assert views.run_summary(store.run(run)).logs == whole
    (listed,) = store.read(runs.listing, runs.Filter(names=(run,)))[0]
    assert views.run_summary(listed).logs == whole


@pytest.mark.parametrize("seed", range(6))
def test_lines_are_counted_by_level_however_they_come(store: Store, seed: int) -> None:
    """Some come twice, some take the place of others, some with the end; some attempts are lost."""
    by_chance = random.Random(seed)
    store.deploy()
    claimed = store.started()
    run = claimed.run.id
    levels = [*LOG_LEVELS, "critical", "loud"]

    def made(first: int, count: int) -> list[AttemptLogLine]:
        found = []
        for seq in range(first, first + count):
            replaces = seq - 1 if seq > 1 and by_chance.random() < 0.3 else None
            one = line(seq, 3, partial=by_chance.random() < 0.4, replaces=replaces)
            found.append(one.model_copy(update={"level": by_chance.choice(levels)}))
        return found

    for _ in range(3):
        seq, batches = 1, []
        for _ in range(6):
            batches.append(made(seq, by_chance.choice([0, 1, 2, 7])))
            seq += len(batches[-1])
            store.write(logs.append, claimed.attempt, claimed.token, batches[-1])
            if by_chance.random() < 0.5:
                store.write(logs.append, claimed.attempt, claimed.token, by_chance.choice(batches))
            check_counts(store, run)
        store.lose(claimed)
        check_counts(store, run)
        store.now += 600  # the platform's own back-off
        store.sweep()
        claimed = store.claim_one()
        store.start(claimed)
    store.complete(claimed, lines=made(1, 5))
    check_counts(store, run)
    assert sum(views.run_summary(store.run(run)).logs.model_dump().values()) > 5


def test_more_lines_than_a_statement_takes_are_counted(store: Store) -> None:
    store.deploy()
    claimed = store.started()
    many = [line(seq, 1) for seq in range(1, 2 * logs._CHUNK + 50)]
    store.write(logs.append, claimed.attempt, claimed.token, many)
    assert store.run(claimed.run.id).live_log_info == len(many)
    store.write(logs.append, claimed.attempt, claimed.token, many)
    check_counts(store, claimed.run.id)


def test_lines_that_there_is_no_room_for_are_not_counted(store: Store, small: None) -> None:
    store.deploy()
    claimed = store.started()
    store.write(logs.append, claimed.attempt, claimed.token, [line(seq, 900) for seq in range(1, 40)])
    check_counts(store, claimed.run.id)
    assert counted(store, claimed.run.id).info == 10
