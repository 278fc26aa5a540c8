"""Keeps a Samovar as busy as it can be, with a client that costs little: batches, and a look at the line."""

from __future__ import annotations

import time

from samovar.calling.transport import Transport

from bench.bed import Bed

#: Runs that wait in line, so that none has to be waited for; and those that are triggered in one call.
_LINE, _BATCH = 400, 200
_LOOK = 0.25
_PATIENCE = 7200.0


def drive(bed: Bed, count: int, task: str = "trivial") -> float:
    """Seconds in which `count` runs of `task` (which takes a number) were triggered and have ended.

    Raises RuntimeError where one ended otherwise than completed.
    """
    began, sent = time.monotonic(), 0
    while True:
        left = unfinished(bed)
        if sent == count and not left:
            break
        if sent < count and left < _LINE:
            batch = min(_BATCH, count - sent)
            bed.client.batch_trigger(task, [{"number": sent + number} for number in range(batch)])
            sent += batch
        else:
            time.sleep(_LOOK)
        if time.monotonic() - began > _PATIENCE:
            raise RuntimeError(f"{left} of {sent} runs have not ended")
    took = time.monotonic() - began
    if bad := next(iter(bed.client.runs(status=["failed", "timed_out", "canceled"], limit=1)), None):
        raise RuntimeError(f"the run {bad.id} ended as {bad.status}: {bad.data.get('error')}")
    return took


def unfinished(bed: Bed) -> int:
    """Runs of the measured project that are in line or execute."""
    transport: Transport = bed.client.transport
    queues = transport.get("/queues", {"project": bed.project.name})["items"]
    return sum(int(queue["queued"]) + int(queue["running"]) for queue in queues)
