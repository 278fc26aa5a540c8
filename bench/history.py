"""What it costs to know what has been: facts of each end, and the duty that folds them; and how late that is."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import create_engine

from bench.bed import Bed, bed
from bench.coordinator import DATABASES
from bench.drive import drive
from bench.figures import Outcome, Series, Target
from bench.postgres import cluster, database
from coordinator.history import facts, folding
from tests.conformance.databases import fresh_database
from tests.conformance.store import Store

#: Of the time of a run at the sustained rate, in percent; seconds that the oldest fact has waited.
COST, LAG = 5.0, 5.0
_PARTS = 10
_LOOK = 0.1


def history(here: Bed, count: int) -> list[Outcome]:
    """`count` runs at the full rate, during which the oldest fact that is not folded is looked at; and as many
    straight at the store, with facts and without.
    """
    found = []
    for kind in DATABASES:
        with contextlib.ExitStack() as stack:
            if kind == "SQLite":
                there, url = here, f"sqlite:///{next(here.samovar.data.rglob('coordinator.db'))}"
            else:
                url = stack.enter_context(database())
                there = stack.enter_context(bed(SAMOVAR_COORDINATOR_DATABASE_URL=url))
            drive(there, min(count, 200))
            with _looking(url) as lags:
                rate = count / drive(there, count)
        behind = Series("oldest fact that is not folded", "s", lags)
        found.append(
            Outcome(
                f"history: lag, {kind}",
                f"while {count} runs are driven at {rate:.0f} a second",
                [behind],
                [],
                [Target("99th percentile", behind.percentile(99), LAG, "s")],
            )
        )
        found.append(_cost(kind, count, rate))
    return found


@contextlib.contextmanager
def _looking(url: str) -> Iterator[list[float]]:
    """Seconds that the oldest fact has waited, looked at while the block runs."""
    lags: list[float] = []
    over = threading.Event()
    engine = create_engine(url)

    def look() -> None:
        while not over.wait(_LOOK):
            with engine.connect() as conn:
                lags.append(folding.lag(conn, time.time()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lags
    finally:
        over.set()
        thread.join()
        engine.dispose()


def _cost(kind: str, count: int, rate: float) -> Outcome:
    """Trigger, claim, start and end at the store, in parts with facts (and folded) and without, by turns."""
    # at the full rate the duty has as many facts before it each time
    part = max(5, count // 5)
    told = Series("with facts, folded", "ms")
    untold = Series("without", "ms")
    write = facts.attempt_ended
    with _store(kind) as store:
        store.database.migrate()
        store.deploy()
        _runs(store, part, folded=True)
        try:
            for _ in range(_PARTS):
                facts.attempt_ended = write
                told.add(_runs(store, part, folded=True))
                facts.attempt_ended = lambda *given, **more: None
                untold.add(_runs(store, part, folded=False))
        finally:
            facts.attempt_ended = write
    share = 100 * (told.median - untold.median) / (1000 / rate)
    return Outcome(
        f"history: cost, {kind}",
        "a run at the store, from its trigger to its end",
        [told],
        [untold],
        [Target(f"the difference, of the time of a run at {rate:.0f} a second", share, COST, "%")],
    )


def _runs(store: Store, count: int, *, folded: bool) -> float:
    """Milliseconds of each of `count` runs."""
    began = time.perf_counter()
    for _ in range(count):
        store.now = time.time()
        store.complete(store.started())
    while folded and store.write(folding.run_once).more:
        pass
    return 1000 * (time.perf_counter() - began) / count


@contextlib.contextmanager
def _store(kind: str) -> Iterator[Store]:
    with contextlib.ExitStack() as stack:
        if kind == "SQLite":
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="samovar-bench-"))
            url = f"sqlite:///{Path(directory) / 'coordinator.db'}"
        else:
            url = stack.enter_context(fresh_database(stack.enter_context(cluster())))
        store = Store(url)
        stack.callback(store.database.close)
        yield store
