"""Warm runs at a steady rate, whatever the answers take, each by a client of its own."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from samovar import Client

from bench.bed import Bed, both
from bench.figures import Outcome, Series, Target
from bench.starts import ledger

RATE = 20.0
#: Of `docker exec` in the same run: the median, and the 99th percentile.
MEDIAN, P99 = 1 / 8, 1 / 2
_PARTS = 5
_CLIENTS = 16


def pace(here: Bed, count: int) -> list[Outcome]:
    """`count` runs at RATE on each database, and between parts of them `docker exec`."""
    return [_paced(bed, name, count) for name, bed in both(here)]


def _paced(bed: Bed, name: str, count: int) -> Outcome:
    result = Series(f"{name}: result", "ms")
    execute = Series("docker exec: first line", "ms")
    part = max(2, count // _PARTS)
    with bed.docker.idle(bed.image) as container:
        _results(bed, part)
        for _ in range(_PARTS):
            result.samples += _results(bed, part)
            for _ in range(max(1, part // 4)):
                execute.add(1000 * bed.docker.execute(container))
    targets = [
        Target("median", result.median, execute.median * MEDIAN, "ms"),
        Target("99th percentile", result.percentile(99), execute.median * P99, "ms"),
    ]
    what = f"warm runs at {RATE:g}/s on {name}: from when a trigger was due to the result in the client's hand"
    return Outcome(f"pace: {name}", what, [result], [execute], targets, notes=[ledger(bed, "warm")])


def _results(bed: Bed, count: int) -> list[float]:
    """Milliseconds each; a run in a new container is not counted."""
    took: list[float | None] = [None] * count
    begin = time.perf_counter() + 0.1
    credentials = bed.samovar.credentials()
    local = threading.local()

    def one(number: int) -> None:
        if not hasattr(local, "client"):
            local.client = Client(*credentials)
        due = begin + number / RATE
        time.sleep(max(0.0, due - time.perf_counter()))
        run = local.client.trigger("warm").wait(60)
        ended = time.perf_counter()
        if run.data["timings"]["start"] != "cold":
            took[number] = 1000 * (ended - due)

    with ThreadPoolExecutor(_CLIENTS) as threads:
        list(threads.map(one, range(count)))
    return [sample for sample in took if sample is not None]
