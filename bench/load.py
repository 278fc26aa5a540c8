"""Many runs at once, and many checkpoints in one run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from bench.bed import Bed, bed
from bench.figures import Outcome, Series, Target
from bench.peers import Postgres, Sqlite
from bench.postgres import database

_ROUNDS = 2
_PARTS = 4
CHECKPOINT_MS = 4.0


def throughput(bed: Bed, count: int) -> Outcome:
    """`count` runs triggered at once, twice, against plain containers, one after another and two at a time."""
    mine = Series("samovar: all at once", "/s")
    one, two = Series("docker-py: one after another", "/s"), Series("docker-py: two at a time", "/s")
    plain = max(4, count // 10)
    for _ in range(_ROUNDS):
        mine.add(count / _seconds(lambda: _all_at_once(bed, count)))
        one.add(plain / _seconds(lambda: _containers(bed, plain, 1)))
        two.add(plain / _seconds(lambda: _containers(bed, plain, 2)))
    return Outcome(
        "throughput",
        f"{count} runs of a trivial task triggered at once, to the last result",
        [mine],
        [one, two],
        better="higher",
    )


def rate(bed: Bed, count: int) -> Series:
    """Runs a second, the containers being there already at the second time."""
    _all_at_once(bed, count)
    return Series("samovar: isolated", "/s", [count / _seconds(lambda: _all_at_once(bed, count))])


def checkpoint(here: Bed, count: int) -> Outcome:
    """Seen from user code on each database, against a bare commit that is as durable, on the same disk."""
    mine, peers = [], []
    with contextlib.closing(Sqlite(here.samovar.directory / "peer.db")) as sqlite:
        mine.append(Series("SQLite: checkpoint", "ms"))
        peers.append(Series("SQLite: a commit, synchronous=FULL", "ms"))
        _steps(here, count, mine[0], peers[0], sqlite.commit)
    with database() as url, bed(SAMOVAR_COORDINATOR_DATABASE_URL=url) as there:
        with contextlib.closing(Postgres(url)) as postgres:
            mine.append(Series("PostgreSQL: checkpoint", "ms"))
            peers.append(Series("PostgreSQL: a commit", "ms", against=1))
            _steps(there, count, mine[1], peers[1], postgres.commit)
    targets = [Target(f"{one.name}, median", one.median, CHECKPOINT_MS, "ms") for one in mine]
    return Outcome("checkpoint", "one checkpoint, seen from user code", mine, peers, targets)


def _steps(bed: Bed, count: int, mine: Series, peer: Series, commit: Callable[[], float]) -> None:
    for _ in range(_PARTS):
        run = bed.client.trigger("steps", {"count": count // _PARTS}).wait(120)
        if run.status != "completed":
            raise RuntimeError(f"the run {run.id} ended as {run.status}: {run.data.get('error')}")
        for seconds in run.data["result"]:
            mine.add(1000 * seconds)
        for _ in range(count // _PARTS):
            peer.add(1000 * commit())


def _seconds(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _all_at_once(bed: Bed, count: int) -> None:
    with ThreadPoolExecutor(16) as threads:
        runs = list(threads.map(lambda n: bed.client.trigger("trivial", {"number": n}), range(count)))
    for number, run in enumerate(runs):
        if run.wait(150).data["result"] != number + 1:
            raise RuntimeError(f"the run {run.id} ended as {run.status} with {run.data['result']!r}")


def _containers(bed: Bed, count: int, threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: bed.docker.run_by_api(bed.image), range(count)))
