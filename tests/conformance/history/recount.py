"""What history has to say, counted anew from the rows of all runs and attempts; and runs of all kinds to count."""

from __future__ import annotations

import math
import random
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Connection, select

from coordinator.attempts.claims import Claimed
from coordinator.foundation.errors import Refused
from coordinator.history import figures, series
from coordinator.history.figures import MEASURES, SUMS
from coordinator.storage.tables import attempts, errors, facts, history, runs
from coordinator.wire import FINAL, AttemptLogLine
from tests.conformance.store import MIB, Store, queue, task_entry

_RETRY = {"max_attempts": 3, "factor": 1, "min_delay": 2, "max_delay": 2, "jitter": False}

Counted = dict[series.Key, dict[str, Counter[str]]]
Measured = dict[series.Key, dict[str, list[float]]]


def deploy(store: Store) -> None:
    for project in ("orders", "bakery"):
        store.deploy(
            task_entry("greet", retry=_RETRY),
            task_entry("hurried", total_timeout=40, queue=queue("h", concurrency=3, on_full="skip")),
            project=project,
        )


def work(store: Store, rng: random.Random, ends: int) -> None:
    """Runs of all kinds until so many attempts have ended, over some days."""
    live: list[Claimed] = []
    while ends > 0:
        task = f"{rng.choice(['orders', 'bakery'])}/{rng.choice(['greet', 'greet', 'hurried'])}"
        store.trigger(task, **rng.choice([{}, {}, {"ttl": 30}, {"delay": 3}]))
        store.now += rng.choice([0.01, 0.3, 2.0, 20.0, 300.0])
        store.sweep()
        live += store.claim(most=2)
        for claimed in list(live):
            if rng.random() < 0.4:
                continue
            live.remove(claimed)
            with suppress(Refused):
                if rng.random() < 0.9:
                    store.now += rng.lognormvariate(-1, 1)
                    store.start(claimed)
                store.now += rng.lognormvariate(0, 2)
                _end(store, rng, claimed)
                ends -= 1
        if rng.random() < 0.1:
            store.cancel(store.trigger("orders/greet").id)


def _end(store: Store, rng: random.Random, claimed: Claimed) -> None:
    how = rng.random()
    if how < 0.6:
        line = AttemptLogLine(seq=0, at=store.now, level="info", stream="stdout", message="x" * rng.randrange(90))
        store.complete(claimed, peak_memory_bytes=int(rng.lognormvariate(4, 0.5) * MIB), lines=[line])
    elif how < 0.8:
        store.fail(claimed, rng.choice(["exception", "timeout"]))
    elif how < 0.9:
        store.lose(claimed, rng.choice(["lost", "out_of_memory"]))
    else:
        store.cancel(claimed.run.id)
        store.lose(claimed, "canceled")


def check(store: Store) -> int:
    """Holds history against the rows; how many runs it is of. Everything is folded."""
    return store.read(_check)


def _check(conn: Connection, now: float) -> int:
    assert conn.execute(select(facts)).all() == []
    counted, measured, ended = _count(conn)
    found = {}
    for row in conn.execute(select(history)):
        found[series.Key(row.project, row.task, row.step, row.at)] = figures.of_row(row)
    assert found.keys() == counted.keys()
    for key, figure in found.items():
        kept = {
            name: counts for name, counts in figure.counts.items() if name in ("statuses", "outcomes", "starts")
        }
        assert kept == {name: dict(words) for name, words in counted[key].items() if words}, key
        for name in SUMS:
            assert figure.sums.get(name, 0.0) == sum(measured[key].get(name, [])), (key, name)
        for name in MEASURES:
            values = sorted(measured[key].get(name, []))
            assert figure.measurements(name) == len(values), (key, name)
            assert figure.sums.get(name, 0.0) == pytest.approx(sum(values)), (key, name)
            for share in (0.5, 0.95, 0.99) if values else ():
                exact = values[max(1, math.ceil(share * len(values))) - 1]
                assert figure.percentile(name, share) == pytest.approx(exact, rel=0.1, abs=1.0), (key, name, share)
    _check_errors(conn)
    return ended


def _count(conn: Connection) -> tuple[Counted, Measured, int]:
    counted: Counted = {}
    measured: Measured = {}
    ended = 0

    def note(run: Any, at: float, words: dict[str, str | None], values: dict[str, float | None]) -> None:
        for step in series.STEPS:
            for task in (run.task, series.ALL):
                key = series.Key(run.project, task, step, series.begin(at, step))
                of = counted.setdefault(key, {})
                for name, word in words.items():
                    of.setdefault(name, Counter()).update([word] if word else [])
                for name, value in values.items():
                    if value is not None:
                        measured.setdefault(key, {}).setdefault(name, []).append(value)
                measured.setdefault(key, {})

    for run in conn.execute(select(runs).where(runs.c.status.in_(FINAL))):
        ended += 1
        note(run, run.finished_at, {"statuses": run.status}, {"total": 1000 * (run.finished_at - run.created_at)})
    query = select(attempts, runs.c.project, runs.c.task).join(runs, runs.c.id == attempts.c.run_id)
    for attempt in conn.execute(query.where(attempts.c.finished_at.is_not(None))):
        began = attempt.started_at
        values = {
            "queued": attempt.queued_ms,
            "start": None if began is None else 1000 * (began - attempt.claimed_at),
            "run": None if began is None else 1000 * (attempt.finished_at - began),
            "memory": attempt.peak_memory,
            "logs": attempt.log_bytes,
        }
        note(attempt, attempt.finished_at, {"outcomes": attempt.status, "starts": attempt.start}, values)
    return counted, measured, ended


def _check_errors(conn: Connection) -> None:
    """Each attempt that ended in an error counts once, and so does each run that ended without an attempt."""
    seen: Counter[tuple[str, str]] = Counter()
    through: Counter[tuple[str, str]] = Counter()
    last = {}
    query = select(attempts, runs.c.project).join(runs, runs.c.id == attempts.c.run_id)
    for attempt in conn.execute(query.where(attempts.c.error_fingerprint.is_not(None))):
        if '"reason":"canceled"' not in attempt.error:
            seen[attempt.project, attempt.error_fingerprint] += 1
        last[attempt.run_id, attempt.finished_at] = attempt.error
    for run in conn.execute(select(runs).where(runs.c.error_fingerprint.is_not(None))):
        if '"reason":"canceled"' not in run.error:
            through[run.project, run.error_fingerprint] += 1
            if (run.id, run.finished_at) not in last:
                seen[run.project, run.error_fingerprint] += 1
    rows = conn.execute(select(errors)).all()
    assert {(row.project, row.fingerprint): row.count for row in rows} == dict(seen)
    assert {(row.project, row.fingerprint): row.runs for row in rows if row.runs} == dict(through)
