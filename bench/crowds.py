"""Many at once: eight cold starts, and one task that floods while another one starts."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from bench.bed import Bed
from bench.drive import unfinished
from bench.figures import Outcome, Series, Target, rounds
from bench.floor import floor
from bench.starts import triggered

BURST, COLD, FLOOD = 1.2, 1.25, 2.0
_AT_ONCE = 8
_BATCH = 500
_SECONDS = 90.0


def burst(bed: Bed, count: int) -> list[Outcome]:
    """A cold start, and eight at once: each in a new container, against the same containers without Samovar."""
    one, last = Series("samovar: first line", "ms"), Series(f"samovar: last first line of {_AT_ONCE}", "ms")
    bare_one = Series("the container: first byte", "ms")
    bare_last = Series(f"the containers: last first byte of {_AT_ONCE}", "ms")
    with floor(bed) as bare, ThreadPoolExecutor(_AT_ONCE) as threads:
        for number in rounds(count + 1, _SECONDS):
            alone = triggered(bed, "cold")[0]
            bed.settled()
            floor_alone = bare.first()
            began = time.time()
            runs = list(threads.map(lambda _: bed.client.trigger("cold"), range(_AT_ONCE)))
            lines = [float(run.wait(120).data["result"]) for run in runs]
            bed.settled()
            floor_last = bare.together(_AT_ONCE)
            if number == 0:
                continue  # the first of each reads files that the others find in memory
            one.add(alone)
            bare_one.add(floor_alone)
            last.add(1000 * (max(lines) - began))
            bare_last.add(floor_last)
    return [
        Outcome(
            "cold over its floor", "trigger → first line, a new container each", [one], [bare_one],
            [Target("over create and start of the same container", one.median / bare_one.median, COLD, "x")],
        ),
        Outcome(
            "burst", f"{_AT_ONCE} cold starts at once", [last], [bare_last],
            [Target(f"over {_AT_ONCE} of the same containers at once", last.median / bare_last.median, BURST, "x")],
        ),
    ]  # fmt: skip


def flood(bed: Bed, count: int) -> Outcome:
    """Warm starts alone, and while `count` runs of another task are in line."""
    alone, beside = Series("alone", "ms"), Series("beside the flood", "ms")
    samples = max(5, count // 25)
    _starts(bed, alone, samples)
    alone.samples.clear()
    _starts(bed, alone, samples)
    for first in range(0, count, _BATCH):
        numbers = range(first, min(count, first + _BATCH))
        bed.client.batch_trigger("trivial", [{"number": number} for number in numbers])
    while len(beside.samples) < samples and unfinished(bed) > 1:
        _starts(bed, beside, 1)
    while unfinished(bed):
        time.sleep(0.2)
    return Outcome(
        "flood",
        f"trigger → first line of a task while another one of the project has {count} runs in line",
        [beside],
        [alone],
        [Target("99th percentile over that alone", beside.percentile(99) / alone.percentile(99), FLOOD, "x")],
        notes=[f"{len(beside.samples)} samples while there was a line"],
    )


def _starts(bed: Bed, series: Series, count: int) -> None:
    for _ in range(count):
        series.add(triggered(bed, "warm")[0])
