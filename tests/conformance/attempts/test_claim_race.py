"""Limits under claims that race, in real time: at no instant is one exceeded, and no run is lost or taken twice.

A run's interval begins when its claim has been answered and ends before its end is reported, by one clock: two that
overlap here overlapped in the database. Each claim also counts what is running before it commits.
`make claim-race` does it in large numbers.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from coordinator.attempts import claims
from coordinator.line import queues
from coordinator.storage.tables import runs
from coordinator.wire import ClaimRequest
from tests.conformance.databases import fresh_database
from tests.conformance.store import MIB, Store, queue, task_entry
from tests.race import Interval, RealTime, claim_race, end_race, most_at_once

LIMIT, PER_KEY, GLOBAL = 4, 2, 6
CLAIMERS, RUNS = 16, 160


def test_the_checker_counts_overlaps() -> None:
    made: list[Interval] = [(0, 2, "a", None), (1, 3, "a", None), (2, 4, "a", None), (0, 9, "b", "k")]
    assert most_at_once(made, lambda i: i[2]) == {"a": 2, "b": 1}


def race(store: Store, take: Callable[[str], list[claims.Claimed]], total: int) -> list[Interval]:
    """What CLAIMERS runners executed until all was done, each run held for a moment."""
    intervals: list[Interval] = []
    done = threading.Event()
    pause = threading.Event()

    def work(n: int) -> None:
        while not done.is_set():
            found = take(f"r{n}")
            if not found:
                pause.wait(0.01)
            for claimed in found:
                began = time.monotonic()
                pause.wait(0.002 * (n % 3))
                ended = time.monotonic()
                store.complete(claimed)
                intervals.append((began, ended, claimed.run.task, claimed.run.concurrency_key))
            if len(intervals) >= total or time.monotonic() > deadline:
                done.set()

    deadline = time.monotonic() + 120
    with ThreadPoolExecutor(CLAIMERS) as pool:
        for future in [pool.submit(work, n) for n in range(CLAIMERS)]:
            future.result()
    return intervals


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("over_all", [None, GLOBAL])
def test_no_limit_is_exceeded_at_any_instant(
    kind: str, over_all: int | None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """With a limit over all queues claims go one after the other; without it only the queues hold them apart."""
    if kind == "sqlite":
        check(f"sqlite:///{tmp_path / 'c.db'}", over_all)
        return
    with fresh_database(request.getfixturevalue("postgres")) as url:
        check(url, over_all)


def check(url: str, over_all: int | None) -> None:
    store = RealTime(url)
    try:
        store.database.migrate()
        limited = queue(concurrency=LIMIT, per_key=PER_KEY)
        store.deploy(task_entry("limited", queue=limited, memory=32 * MIB), task_entry("free", memory=32 * MIB))
        made = [store.trigger("limited", concurrency_key=f"k{n % 3}").id for n in range(RUNS // 2)]
        made += [store.trigger("free").id for _ in range(RUNS // 2)]

        def take(runner: str) -> list[claims.Claimed]:
            def inside(conn: Connection, now: float) -> list[claims.Claimed]:
                request = ClaimRequest(memory=2**40, slots=100, most=2)
                found = claims.claim(conn, now, runner, request, over_all)
                seen.append(occupied(conn))
                return found

            return store.write(inside)

        seen: list[tuple[int, int, int]] = []
        intervals = race(store, take, len(made))
        assert Counter(i[2] for i in intervals) == {"limited": RUNS // 2, "free": RUNS // 2}
        assert most_at_once(intervals, lambda i: i[2])["limited"] <= LIMIT
        assert max(n for (_, key), n in by_key(intervals) if key is not None) <= PER_KEY
        if over_all is not None:
            assert max(most_at_once(intervals, lambda i: None).values()) <= over_all
            assert max(everything for everything, _, _ in seen) <= over_all
        assert max(of_queue for _, of_queue, _ in seen) <= LIMIT
        assert max(of_key for _, _, of_key in seen) <= PER_KEY
        assert store.unlisted() == []
        assert {store.run(run).status for run in made} == {"completed"}
        assert {store.run(run).attempts for run in made} == {1}
    finally:
        store.database.close()


def by_key(intervals: list[Interval]) -> Any:
    return most_at_once(intervals, lambda i: (i[2], i[3])).items()


def occupied(conn: Connection) -> tuple[int, int, int]:
    """Running runs as this transaction sees them: in all, of the limited queue, of its fullest key."""
    everything = conn.scalar(select(func.count()).select_from(runs).where(runs.c.status == "running")) or 0
    of_key = select(func.count()).where(runs.c.status == "running", runs.c.queue == "shared")
    fullest = conn.scalars(of_key.group_by(runs.c.concurrency_key)).all()
    return everything, queues.running(conn, "orders", "shared"), max(fullest, default=0)


def test_triggers_that_race_with_claims_leave_no_run_behind(request: pytest.FixtureRequest) -> None:
    """The promise of lanes: one that a claim declares empty while a run is queued in it would hide that run."""
    with fresh_database(request.getfixturevalue("postgres")) as url:
        store = RealTime(url)
        try:
            store.database.migrate()
            store.deploy(task_entry("greet", memory=32 * MIB))
            total = 200
            triggering = threading.Thread(target=lambda: [store.trigger() for _ in range(total)])

            def take(runner: str) -> list[claims.Claimed]:
                return store.write(claims.claim, runner, ClaimRequest(memory=2**40, slots=100, most=1))

            triggering.start()
            intervals = race(store, take, total)
            triggering.join()
            assert len(intervals) == total
            assert store.unlisted() == []
        finally:
            store.database.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_cancel_that_races_with_an_end_leaves_one_outcome(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "sqlite":
        assert end_race(f"sqlite:///{tmp_path / 'c.db'}", 80) == []
        return
    with fresh_database(request.getfixturevalue("postgres")) as url:
        assert end_race(url, 80) == []


def test_processes_that_claim_from_one_file_take_each_run_once(tmp_path: Path) -> None:
    assert claim_race(f"sqlite:///{tmp_path / 'c.db'}", 60, processes=2, claimers=1) == []
