"""What runs that wait take: of containers nothing, of the coordinator next to nothing."""

from __future__ import annotations

import time
from pathlib import Path

from bench.bed import Bed
from bench.figures import Outcome, Series, Target
from bench.idle import idle_memory
from tests.waiting import eventually

_LIMIT_KIB = 1.0
_BATCH = 1000
#: For a coordinator that has just started to go through all its duties.
_SETTLE = 15.0
_SAMPLES = 5
#: For the pool as it was said last to be as it is.
_KEPT = 180.0


def waiting(bed: Bed, count: int) -> Outcome:
    """`count` runs that wait for a token; the same coordinator, started anew, with them and without them."""
    bed.client.trigger("trivial", {"number": 1}).wait(60)
    instead = Series("a warm container, held instead", "KiB")
    instead.add(1024 * idle_memory(bed)[0])
    for first in range(0, count, _BATCH):
        bed.client.batch_trigger("waits", [{}] * min(_BATCH, count - first))
    eventually(lambda: _waiting(bed) == count, f"{count} runs to wait", deadline=900)
    with_them = _resident(bed)
    # those that stand ready are nobody's; what waiting runs held would be busy
    eventually(lambda: not _held(bed), "containers to come free", deadline=_KEPT)
    held = Series("containers", "")
    held.add(_held(bed))
    bed.samovar.cli("runs", "cancel", "--status", "waiting", "--yes")
    eventually(lambda: _waiting(bed) == 0, "no run to wait")
    without = _resident(bed)
    mine = Series("coordinator: resident memory, for each run", "KiB")
    mine.add(max(0.0, with_them - without) / count)
    return Outcome(
        "waiting",
        f"{count} runs that wait",
        [mine, held],
        [instead],
        [
            Target("memory of the coordinator for each waiting run", mine.median, _LIMIT_KIB, "KiB"),
            Target("containers", held.median, 0, ""),
        ],
    )


def _held(bed: Bed) -> int:
    """Containers that do not stand ready."""
    return sum(entry["state"] != "idle" for entry in bed.samovar.pool())


def _waiting(bed: Bed) -> int:
    found, cursor = 0, None
    while True:
        page = bed.client.transport.get("/runs", {"status": "waiting", "limit": 500, "cursor": cursor})
        found += len(page["items"])
        cursor = page["next"]
        if not cursor:
            return found


def _resident(bed: Bed) -> float:
    """KiB of a coordinator that has just started on what is there, the least of several looks."""
    bed.samovar.kill_part("coordinator")
    time.sleep(_SETTLE)
    looks = []
    for _ in range(_SAMPLES):
        status = Path(f"/proc/{bed.samovar.pids()['coordinator']}/status").read_text()
        looks += [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")]
        time.sleep(1)
    return float(min(looks))
