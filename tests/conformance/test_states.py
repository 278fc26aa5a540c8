"""The state table is what happens: random histories take every transition in it, and no other."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, func, select

from coordinator.attempts.claims import Claimed
from coordinator.foundation import states
from coordinator.foundation.errors import Refused
from coordinator.foundation.states import NEW
from coordinator.storage import tables
from coordinator.storage.tables import facts, runs
from tests.conformance.store import Store, queue, stuck, task_entry, unlisted

DOC = Path(__file__).resolve().parents[2] / "docs" / "reference" / "states.md"

RUN = {(t.source, t.target) for t in states.RUN}
ATTEMPT = {(t.source, t.target) for t in states.ATTEMPT}

Seen = dict[str, str]


def snapshot(conn: Connection, now: float) -> tuple[Seen, Seen]:
    """The status of every run and of every attempt, none of them forgotten by what would move it on."""
    assert unlisted(conn, now) == []
    assert stuck(conn, now) == []
    assert untold(conn, now) == []

    def of(table: str) -> Seen:
        t = tables.metadata.tables[table]
        return {row.id: row.status for row in conn.execute(select(t.c.id, t.c.status).order_by(t.c.id))}

    return of("runs"), of("attempts")


def untold(conn: Connection, now: float) -> list[str]:
    """Runs whose end is not told by one fact, or which are told to have ended and have not."""
    count = select(func.count()).where(facts.c.run_id == runs.c.id, facts.c.status == runs.c.status)
    ended = runs.c.finished_at.is_not(None)
    wrong = select(runs.c.id).where(ended, count.scalar_subquery() != 1)
    early = (
        select(facts.c.run_id).join(runs, runs.c.id == facts.c.run_id).where(facts.c.status.is_not(None), ~ended)
    )
    return [*conn.scalars(wrong), *conn.scalars(early)]


def walk(store: Store, seed: int, steps: int) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Every change of a status that random steps made, of runs and of attempts, until all there are were seen."""
    rng = random.Random(seed)
    retry = {"max_attempts": 3, "factor": 1, "min_delay": 2, "max_delay": 2, "jitter": False}
    # a limit so high that only the walk's length meets it, and one so low that a full queue skips now and then
    limits = queue(concurrency=8, per_key=6, on_full="skip")
    common = {"retry": retry, "concurrency_key": "key"}
    store.deploy(
        task_entry("greet", queue=limits, **common),
        task_entry("hurried", queue=limits, total_timeout=9, **common),
        task_entry("narrow", queue=queue("narrow", concurrency=1, on_full="skip"), **common),
    )
    live: list[Claimed] = []
    runs_seen: set[tuple[str, str]] = set()
    attempts_seen: set[tuple[str, str]] = set()
    before = store.read(snapshot)

    def look() -> None:
        """After every change of a status: of two at once only the first and the last status would be seen."""
        nonlocal before
        after = store.read(snapshot)
        for seen, was, now in zip((runs_seen, attempts_seen), before, after, strict=True):
            seen |= {(was.get(id, NEW), now[id]) for id in now if was.get(id) != now[id]}
        before = after

    def some_claimed() -> Claimed:
        return rng.choice(live[-3:])  # older ones are over: a stale write now and then is enough

    def some_attempt() -> Claimed:
        """Its user code runs by now, or it is still about to."""
        claimed = some_claimed()
        with suppress(Refused):
            if rng.random() < 0.5:
                store.start(claimed)
                look()
        return claimed

    def lose() -> None:
        reasons = ["lost", "out_of_memory", "rejected", "canceled", "timeout"]
        store.lose(some_attempt(), rng.choice(reasons))

    def cancel_and_end() -> None:
        claimed = some_attempt()
        store.cancel(claimed.run.id)
        store.lose(claimed, "canceled")

    def come_to_a_wait() -> None:
        claimed = some_attempt()
        store.wait(claimed, "sleep", f"sleep-{claimed.attempt}", seconds=rng.choice([2, 30]))
        store.suspend(claimed, f"sleep-{claimed.attempt}")

    def move_on() -> None:
        store.now += rng.choice([1, 3, 3, 31])
        store.sweep()

    actions = {
        lambda: store.trigger(
            rng.choice(["greet"] * 4 + ["hurried", "hurried", "narrow"]),
            payload={"key": rng.choice("ab")},
            **rng.choice([{}, {"delay": 3}, {"ttl": 4}, {"delay": 3, "ttl": 2}]),
        ): 4,
        lambda: live.extend(store.claim()): 8,
        lambda: store.start(some_claimed()): 5,
        lambda: store.complete(some_attempt()): 2,
        lambda: store.fail(some_attempt(), rng.choice(["exception", "timeout"])): 4,
        lose: 4,
        lambda: store.cancel(rng.choice(list(before[0])[-4:])): 2,
        cancel_and_end: 2,
        come_to_a_wait: 4,
        move_on: 3,
    }
    for step in range(steps):
        if step >= 300 and (runs_seen, attempts_seen) == (RUN, ATTEMPT):
            break
        (act,) = rng.choices(list(actions), list(actions.values()))
        with suppress(Refused, IndexError):  # stale, or nothing there to choose from
            act()
        look()
    return runs_seen, attempts_seen


def test_random_histories_keep_to_the_table(store: Store) -> None:
    runs_seen, attempts_seen = walk(store, seed=1, steps=3500)
    assert runs_seen == RUN
    assert attempts_seen == ATTEMPT


def test_the_document_has_the_same_table() -> None:
    rows = {
        tuple(cell.strip().strip("`") for cell in line.strip("|").split("|"))
        for line in DOC.read_text("utf-8").splitlines()
        if line.startswith("| `")
    }
    expected = {(t.source, t.target, t.by, t.when) for t in (*states.RUN, *states.ATTEMPT)}
    assert rows == expected
