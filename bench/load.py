"""Many runs at once, and many checkpoints in one run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from bench.bed import Bed, both
from bench.figures import Outcome, Series, Target
from bench.peers import Postgres, Sqlite

_ROUNDS = 2
_PARTS = 4
#: Of a bare commit that is as durable.
CHECKPOINT = 6.0


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
    mine, peers, targets = [], [], []
    for place, (name, bed) in enumerate(both(here)):
        series, floor = Series(f"{name}: checkpoint", "ms"), Series(f"{name}: a commit", "ms", against=place)
        url = bed.samovar.environment.get("SAMOVAR_COORDINATOR_DATABASE_URL")
        plain = Postgres(url) if url else Sqlite(bed.samovar.directory / "peer.db")
        with contextlib.closing(plain):
            _steps(bed, count, series, floor, plain.commit)
        mine.append(series)
        peers.append(floor)
        targets.append(Target(f"{name}: over a commit, medians", series.median / floor.median, CHECKPOINT, "x"))
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
