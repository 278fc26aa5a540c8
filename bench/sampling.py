"""What it costs to look at the memory of a run four times a second: processor time of a run that does nothing."""

from __future__ import annotations

import time

from bench.bed import Bed
from bench.figures import Outcome, Series, Target
from bench.inside import group_of
from tests.waiting import eventually

#: Percent of one processor.
SHARE = 0.2
_SECONDS = 20.0


def sampling(bed: Bed, count: int) -> Outcome:
    """`count` times twenty seconds of a run that sleeps."""
    busy = Series("a container whose run sleeps", "%")
    for _ in range(count):
        run = bed.client.trigger("sleeps", {"seconds": _SECONDS + 5})
        name = str(eventually(lambda: _container(bed), "the run to have a container"))
        group = group_of(bed, name)
        time.sleep(2)
        before, began = group.cpu(), time.monotonic()
        time.sleep(_SECONDS)
        busy.add(100 * (group.cpu() - before) / (time.monotonic() - began))
        run.wait(60)
    return Outcome(
        "sampling",
        "processor time of process 1, the zygote and the run, of one processor",
        [busy],
        [],
        [Target("share of a processor", busy.median, SHARE, "%")],
    )


def _container(bed: Bed) -> str | None:
    busy = [entry for entry in bed.samovar.pool() if entry["state"] == "busy" and entry["task"] == "sleeps"]
    return str(busy[0]["container"]) if busy else None
