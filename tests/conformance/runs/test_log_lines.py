"""How much of a run's log is kept."""

from __future__ import annotations

import pytest

from coordinator.runs import logs
from coordinator.wire import AttemptLogLine
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
