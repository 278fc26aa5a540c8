"""`make claim-race`: claims from many processes at once, and cancels that race with ends, in large numbers.

Each part prints what it saw, and the exit code is 1 where a run was lost or taken twice, a limit was exceeded at
any instant, or a run came to two ends. tests/conformance/attempts/test_claim_race.py runs the same in small.

A run's interval begins when its claim has been answered and ends before its end is reported, by the one clock of
the host: two that overlap here overlapped in the database. Each claim also counts what runs before it commits.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select

from coordinator.attempts import attempts, claims
from coordinator.foundation.errors import StaleAttempt, StorageUnavailable
from coordinator.line import queues
from coordinator.runs import cancelling, plans, triggers
from coordinator.storage.database import Database
from coordinator.storage.tables import attempts as attempts_table
from coordinator.storage.tables import runs as runs_table
from coordinator.storage.values import Stored
from coordinator.tasks.payloads import Payloads
from coordinator.wire import FINAL, ClaimRequest, Finish, Lost, Started, TriggerRequest
from tests.conformance.databases import cluster, fresh_database, postgres_binaries
from tests.conformance.store import MIB, Store, queue, task_entry

#: (begin, end, task, key) of a run.
Interval = tuple[float, float, str, str | None]

# few enough that claims meet them all the time
QUEUE, PER_KEY, ALL = 4, 2, 6
DEADLINE = 1500.0


class RealTime(Store):
    """A store whose clock is the database's."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.database.close()
        self.database = Database(url)
        self.read = self.database.read_now
        # through the threads that a coordinator writes with: one for SQLite, many for PostgreSQL
        self.write = lambda *given, **named: asyncio.run(self.database.write(*given, **named))


@dataclass
class Seen:
    """What one process executed, and the most that a claim of it counted: in all, of the queue, of a key."""

    intervals: list[Interval] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    most: tuple[int, int, int] = (0, 0, 0)
    refused: int = 0


def most_at_once(intervals: list[Interval], of: Callable[[Interval], object]) -> Counter[object]:
    """For each group, how many intervals overlapped at the worst instant."""
    worst: Counter[object] = Counter()
    live: Counter[object] = Counter()
    # an end comes before a begin at the same instant
    edges = sorted(
        [(i[0], 1, of(i)) for i in intervals] + [(i[1], -1, of(i)) for i in intervals], key=lambda e: e[:2]
    )
    for _, step, group in edges:
        live[group] += step
        worst[group] = max(worst[group], live[group])
    return worst


def occupied(conn: Connection) -> tuple[int, int, int]:
    """Running runs as this transaction sees them: in all, of the limited queue, of its fullest key."""
    everything = conn.scalar(select(func.count()).select_from(runs_table).where(runs_table.c.status == "running"))
    of_key = select(func.count()).where(runs_table.c.status == "running", runs_table.c.queue == "shared")
    fullest = conn.scalars(of_key.group_by(runs_table.c.concurrency_key)).all()
    return everything or 0, queues.running(conn, "orders", "shared"), max(fullest, default=0)


# ---------------------------------------------------------------- claims


def trigger_many(store: Store, count: int) -> set[str]:
    """Half of them in a queue with limits and three keys, half without; their ids."""
    made: set[str] = set()
    payloads = Payloads()
    for start in range(0, count, 500):
        for task, share in (("limited", range(start, min(count, start + 500), 2)), ("free", None)):
            numbers = share or range(start + 1, min(count, start + 500), 2)
            bodies = [TriggerRequest(concurrency_key=f"k{n // 2 % 3}" if share else None) for n in numbers]

            def plan(conn: Connection, now: float, task: str = task, bodies: Any = bodies) -> list[Any]:
                return [plans.plan(conn, now, task, body, payloads) for body in bodies]

            planned = [(item, Stored("{}", None, 2)) for item in store.read(plan)]
            made |= {one.run.id for one in store.write(triggers.create_all, planned)}
    return made


def work(url: str, process: int, claimers: int, over_all: int | None) -> Seen:
    """`claimers` runners in one process, until nothing is left to run."""
    store, seen, lock, done = RealTime(url), Seen(), threading.Lock(), threading.Event()
    end = time.monotonic() + DEADLINE
    left = select(runs_table.c.id).where(runs_table.c.status.not_in(FINAL)).limit(1)
    pause = threading.Event()

    def take(conn: Connection, now: float, runner: str) -> tuple[list[claims.Claimed], tuple[int, int, int]]:
        found = claims.claim(conn, now, runner, ClaimRequest(memory=2**40, slots=100, most=2), over_all)
        return found, occupied(conn)

    def patiently(call: Callable[[], Any]) -> Any:
        # another process that writes may hold SQLite for longer than one waits: as a runner does, ask again
        while True:
            try:
                return call()
            except StorageUnavailable:
                with lock:
                    seen.refused += 1

    def run(number: int) -> None:
        runner, empty = f"r{process}.{number}", 0
        while not done.is_set() and time.monotonic() < end:
            found, counts = patiently(lambda: store.write(take, runner))
            with lock:
                seen.most = tuple(map(max, seen.most, counts))  # type: ignore[assignment]
            for claimed in found:
                began = time.monotonic()
                pause.wait(0.0005 * (number % 3))
                ended = time.monotonic()
                patiently(lambda claimed=claimed: store.complete(claimed))  # type: ignore[misc]
                with lock:
                    seen.intervals.append((began, ended, claimed.run.task, claimed.run.concurrency_key))
                    seen.taken.append(claimed.run.id)
            if found:
                empty = 0
                continue
            # in vain because of a limit, or because nothing is left: asked now and then
            empty += 1
            if empty % 10 == 5 and not patiently(lambda: store.read(lambda conn, now: conn.scalar(left))):
                done.set()
            pause.wait(0.01)

    with ThreadPoolExecutor(claimers) as pool:
        for future in [pool.submit(run, number) for number in range(claimers)]:
            future.result()
    store.database.close()
    return seen


def claim_race(url: str, count: int, processes: int, claimers: int, over_all: int | None = ALL) -> list[str]:
    """What went wrong, after printing what was seen."""
    store = RealTime(url)
    store.database.migrate()
    limited = queue(concurrency=QUEUE, per_key=PER_KEY)
    store.deploy(task_entry("limited", queue=limited, memory=32 * MIB), task_entry("free", memory=32 * MIB))
    made = trigger_many(store, count)
    began = time.monotonic()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        parts = [pool.submit(work, url, n, claimers, over_all) for n in range(processes)]
        seen = [part.result() for part in parts]
    seconds = time.monotonic() - began
    intervals = [interval for part in seen for interval in part.intervals]
    taken = Counter(run for part in seen for run in part.taken)
    lost, doubled = len(made - set(taken)), sum(times - 1 for times in taken.values())

    def ends(conn: Connection, now: float) -> tuple[int, int]:
        completed = select(func.count()).where(runs_table.c.status == "completed", runs_table.c.attempts == 1)
        return conn.scalar(completed) or 0, conn.scalar(select(func.count()).select_from(attempts_table)) or 0

    completed, attempted = store.read(ends)
    unlisted = store.unlisted()
    store.database.close()
    by_task = most_at_once(intervals, lambda i: i[2])
    of_key = max(n for key, n in most_at_once(intervals, lambda i: (i[2], i[3])).items() if key[1] is not None)  # type: ignore[index]
    everything = max(most_at_once(intervals, lambda i: None).values())
    counted = [max(part.most[n] for part in seen) for n in range(3)]
    print(
        f"  {count} runs, {processes * claimers} claimers in {processes} processes, {seconds:.1f} s "
        f"({count / seconds:.0f} runs/s): {lost} lost, {doubled} doubled"
    )
    print(
        f"  most at one instant: queue {max(by_task['limited'], counted[1])} of {QUEUE}, "
        f"key {max(of_key, counted[2])} of {PER_KEY}, all {max(everything, counted[0])} of {over_all or 'any'}"
        + (f"; refused and asked again: {n}" if (n := sum(part.refused for part in seen)) else "")
    )
    checks = {
        f"{lost} runs were lost": not lost,
        f"{doubled} runs were taken twice": not doubled,
        f"{completed} of {count} completed in one attempt": completed == attempted == count,
        "the queue's limit was exceeded": max(by_task["limited"], counted[1]) <= QUEUE,
        "a key's limit was exceeded": max(of_key, counted[2]) <= PER_KEY,
        "the limit over all was exceeded": over_all is None or max(everything, counted[0]) <= over_all,
        f"runs were left in no lane: {unlisted}": not unlisted,
    }
    return [problem for problem, fine in checks.items() if not fine]


# ---------------------------------------------------------------- ends


def end_race(url: str, count: int, at_once: int = 40) -> list[str]:
    """A run's own end, its runner's account of its cancel, and the cancel itself, all at once."""
    store = RealTime(url)
    store.database.migrate()
    store.deploy(task_entry("greet", memory=32 * MIB, queue=queue(concurrency=at_once)))
    problems: list[str] = []
    outcomes: Counter[str] = Counter()
    rng = random.Random(1)
    began = time.monotonic()
    with ThreadPoolExecutor(12) as pool:
        for _ in range(0, count, at_once):
            for _ in range(at_once):
                store.trigger()
            claimed = store.claim(slots=2 * at_once, most=2 * at_once, memory=2**40)
            # a slot that was freed twice would let more in, one that was not would let in fewer
            if len(claimed) != at_once:
                problems.append(f"{len(claimed)} of {at_once} slots were free")
            for one in claimed:
                store.write(attempts.start, one.attempt, Started(token=one.token, start="cold"))
            calls = [(one, call) for one in claimed for call in (_finish, _lost, _cancel)]
            rng.shuffle(calls)
            done = [(one, call, pool.submit(call, store, one)) for one, call in calls]
            accepted: Counter[str] = Counter()
            for one, call, future in done:
                if future.result() and call is not _cancel:
                    accepted[one.run.id] += 1
            for one in claimed:
                row = store.run(one.run.id)
                outcomes[row.status] += 1
                if accepted[one.run.id] != 1 or row.status not in ("completed", "canceled") or row.attempts != 1:
                    problems.append(f"{row.id}: {accepted[one.run.id]} ends, {row.status}, {row.attempts} attempts")
            occupied_now = store.read(lambda conn, now: occupied(conn))
            if occupied_now != (0, 0, 0) or store.live_attempts():
                problems.append(f"still occupied: {occupied_now}, {store.live_attempts()} attempts live")
    total = sum(outcomes.values())
    print(
        f"  {total} cancels raced with ends, {time.monotonic() - began:.1f} s: "
        + ", ".join(f"{n} {status}" for status, n in sorted(outcomes.items()))
        + f"; {len(problems)} with other than one end"
    )
    store.database.close()
    return problems[:10]


def _finish(store: Store, one: claims.Claimed) -> bool:
    try:
        body = Finish(token=one.token, outcome="completed", result=1)
        return not store.write(attempts.finish, one.attempt, body, Stored("1")).repeated
    except StaleAttempt:
        return False


def _lost(store: Store, one: claims.Claimed) -> bool:
    """What a runner says that has killed the container because of a cancel; there has to be one before."""
    store.write(cancelling.cancel, one.run.id)
    try:
        store.write(attempts.lost, one.attempt, Lost(token=one.token, reason="canceled", message="canceled"))
    except StaleAttempt:
        return False
    return True


def _cancel(store: Store, one: claims.Claimed) -> bool:
    store.write(cancelling.cancel, one.run.id)
    return True


# ---------------------------------------------------------------- the command


@contextmanager
def sqlite() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="samovar-race-") as directory:
        yield f"sqlite:///{Path(directory) / 'c.db'}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.race", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="a tenth of everything with 0.1")
    scale = parser.parse_args(arguments).scale
    problems: list[str] = []

    def part(name: str, check: Callable[[], list[str]]) -> None:
        print(name, flush=True)
        found = check()
        print("\n".join(f"  WRONG: {problem}" for problem in found) or "  as it should be", flush=True)
        problems.extend(found)

    def of(count: int) -> int:
        return max(40, int(count * scale))

    binaries = postgres_binaries()
    if binaries is None:
        print("no PostgreSQL here: apt-get install postgresql")
        return 2
    with cluster(binaries) as server:
        for name, over_all in (("a limit over all queues", ALL), ("no limit over all queues", None)):
            with fresh_database(server) as url:
                part(
                    f"PostgreSQL, claims with {name}",
                    lambda url=url, over_all=over_all: claim_race(url, of(20_000), 4, 4, over_all),  # type: ignore[misc]
                )
        with fresh_database(server) as url:
            part("PostgreSQL, cancels and ends", lambda: end_race(url, of(10_000)))
    with sqlite() as url:
        part("SQLite, claims", lambda: claim_race(url, of(5_000), 4, 1))
    with sqlite() as url:
        part("SQLite, cancels and ends", lambda: end_race(url, of(10_000)))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
