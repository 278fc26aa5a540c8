"""History is what a recount of all runs says, also where its holder is killed again and again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, select

from coordinator.history import folding, series
from coordinator.storage.tables import facts, history
from tests.conformance.history import recount
from tests.conformance.store import Store

#: How much there is of what is drawn at random; `make test-long` has five times as much.
_TIMES = int(os.environ.get("SAMOVAR_TEST_TIMES", "1"))
#: Attempts that end in a round, and holders of the duty that are killed.
_ENDS, _KILLS = 40 * _TIMES, 4 * _TIMES


def fold_all(store: Store, most: int = folding.BATCH) -> int:
    total = 0
    while True:
        folded = store.write(folding.run_once, most)
        total += folded.facts
        if not folded.more:
            return total


@pytest.mark.parametrize("most", [1, 100])
def test_history_is_a_recount_of_all_runs(store: Store, most: int) -> None:
    recount.deploy(store)
    rng = random.Random(most)
    for _ in range(4):
        recount.work(store, rng, _ENDS)
        assert fold_all(store, most) > _ENDS
        store.now += rng.choice([3600, 30_000])
    assert recount.check(store) > 100


@contextmanager
def killed_at(store: Store, number: int) -> Iterator[list[str]]:
    """Ends the transaction at its statement with this number."""
    sent: list[str] = []

    def before(conn: Any, cursor: Any, statement: str, *rest: Any) -> None:
        sent.append(statement)
        if len(sent) == number:
            raise InterruptedError

    engine = store.database._writer
    event.listen(engine, "before_cursor_execute", before)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", before)


def test_a_batch_that_is_broken_off_anywhere_has_counted_nothing(store: Store) -> None:
    recount.deploy(store)
    recount.work(store, random.Random(3), 60)
    number = 1
    while True:
        with killed_at(store, number) as sent:
            try:
                store.write(folding.run_once, 30)
            except InterruptedError:
                number += 1
                continue
            assert len(sent) == number - 1
            break
    assert number > 6
    fold_all(store)
    assert recount.check(store) > 20


_BATCHES = 8
_HOLDER = """
import sys
from coordinator.foundation.errors import StorageUnavailable
from coordinator.history import folding
from coordinator.storage.database import Database
database = Database(sys.argv[1])
for line in sys.stdin:
    try:
        print(database.write_now(folding.run_once, 2).facts, flush=True)
    except StorageUnavailable as error:
        print(error, file=sys.stderr)
"""


def test_a_holder_that_is_killed_has_counted_everything_once(store: Store) -> None:
    """Two at a time, `_KILLS` of them killed with work in hand."""
    recount.deploy(store)
    rng = random.Random(5)
    recount.work(store, rng, 40 * _KILLS + 10)
    holders = [_holder(store) for _ in range(2)]
    try:
        for _ in range(_KILLS):
            victim = holders.pop(0)
            assert victim.stdout is not None
            for _ in range(rng.randrange(1, _BATCHES)):
                assert victim.stdout.readline().strip() == b"2"
            victim.send_signal(signal.SIGKILL)
            assert victim.wait(10) == -signal.SIGKILL
            holders.append(_holder(store))
    finally:
        for holder in holders:
            holder.kill()
            holder.wait(10)
    assert fold_all(store) > 50
    assert recount.check(store) > 50


def _holder(store: Store) -> subprocess.Popen[bytes]:
    """With so many batches to fold."""
    command = [sys.executable, "-c", _HOLDER, store.url]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin is not None
    holder.stdin.write(b"\n" * _BATCHES)
    holder.stdin.flush()
    return holder


def fact(**values: Any) -> dict[str, Any]:
    base = {column.name: None for column in facts.columns if column.name != "id"}
    return base | {
        "at": 1_800_000_000.0, "kind": "attempt", "project": "orders", "task": "greet", "version": "20260101.1",
        "run_id": "run_1", "outcome": "completed", "status": "completed", "total_ms": 5.0, **values,
    }  # fmt: skip


def tell(store: Store, told: list[dict[str, Any]]) -> None:
    store.write(lambda conn, now: conn.execute(insert(facts), told))


def test_tasks_beyond_the_most_are_counted_together(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "MOST_TASKS", 3)
    tell(store, [fact(task=f"t{n}") for n in (1, 2, 3, 4, 4)])
    fold_all(store)
    tell(store, [fact(task=f"t{n}") for n in (1, 3, 5)] + [fact(task="t9", project="bakery")])
    fold_all(store)

    def counts(conn: Connection, now: float) -> dict[tuple[str, str, str], int]:
        return {
            (row.project, row.task, row.step): recount.figures.of_row(row).runs
            for row in conn.execute(select(history))
        }

    # the most used ones of those that came together, and who is counted stays so
    expected = {("orders", "t4"): 2, ("orders", "t1"): 2, ("orders", "t2"): 1, ("orders", "_other"): 3}
    expected |= {("bakery", "t9"): 1, ("bakery", ""): 1, ("orders", ""): 8}
    assert store.read(counts) == {(*key, step): count for key, count in expected.items() for step in series.STEPS}


def test_on_the_next_day_others_are_told_apart(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "MOST_TASKS", 1)
    tell(store, [fact(task="a"), fact(task="b"), fact(task="b", at=1_800_000_000.0 + 86400)])
    fold_all(store)
    named = select(history.c.task, history.c.at).where(history.c.task != series.ALL)
    rows = store.read(lambda conn, now: conn.execute(named).all())
    assert {(row.task, int(row.at > 1_800_000_000)) for row in rows} == {("a", 0), ("_other", 0), ("b", 1)}


def test_what_waits_is_known(store: Store) -> None:
    assert store.read(folding.waits) is False
    assert store.read(folding.lag) == 0
    tell(store, [fact(at=store.now - 3), fact(at=store.now)])
    assert store.read(folding.waits) is True
    assert store.read(folding.lag) == 3
    assert store.write(folding.run_once, 1) == (1, True)
    assert store.write(folding.run_once, 2) == (1, False)


def test_a_batch_takes_few_statements_whatever_is_in_it(store: Store) -> None:
    """Two for each project and hour or day that it is about, and not one for each task."""
    tell(
        store,
        [
            fact(task=f"t{n}", fingerprint=f"{n:016x}", reason="exception", error_type="E", title="t")
            for n in range(90)
        ],
    )
    with killed_at(store, 10_000) as sent:
        assert store.write(folding.run_once).facts == 90
    mine = [
        statement for statement in sent if not statement.startswith(("BEGIN", "SELECT extract", "SELECT pg_adv"))
    ]
    assert len(mine) <= 9, mine
