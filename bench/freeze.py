"""What freezing idle containers would save, and what it would add to a warm start."""

from __future__ import annotations

import time

from bench.bed import Bed
from bench.figures import Outcome, Series, rounds
from bench.idle import idle_container

_SECONDS = 20.0
_MOST = 120.0


def freeze(bed: Bed, count: int) -> Outcome:
    """Pause and unpause of an idle container, and the processor time that it takes while it is not paused."""
    if bed.client.trigger("trivial", {"number": 1}).wait(60).status != "completed":
        raise RuntimeError("the run that leaves a warm container behind did not complete")
    name = idle_container(bed)
    engine = bed.docker.engine
    pause, unpause = Series("pause", "ms"), Series("unpause", "ms")
    before = _processor(bed, name)
    time.sleep(_SECONDS)
    idle = Series("processor time of an idle container", "µs a second")
    idle.add((_processor(bed, name) - before) / 1000 / _SECONDS)
    for _ in rounds(count, _MOST):
        for series, step in ((pause, engine.pause), (unpause, engine.unpause)):
            began = time.perf_counter()
            step(name)
            series.add(1000 * (time.perf_counter() - began))
    return Outcome(
        "freeze",
        "an idle container paused, and not",
        [pause, unpause, idle],
        [],
        notes=["what a start would wait for is unpause; what pausing saves is the processor time"],
    )


def _processor(bed: Bed, name: str) -> int:
    """Nanoseconds that the container has had."""
    stats = bed.docker.engine.stats(name, stream=False, one_shot=True)
    return int(stats["cpu_stats"]["cpu_usage"]["total_usage"])
