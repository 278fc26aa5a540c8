"""Every duty, a line each. A new one is added here, and is then held by one coordinator as all are."""

from __future__ import annotations

from coordinator.context import Coordinator
from coordinator.foundation.limits import OBSERVE, SWEEP
from coordinator.history import folding
from coordinator.line.holds import EVERY
from coordinator.maintenance import bulk, holds, retention, schedules, sweep
from coordinator.maintenance.duty import Duty, Round


async def _schedules(core: Coordinator, up: float) -> Round:
    fired = await core.database.write(schedules.run_once, core.payloads)
    return Round(fired.topics, fired.next_due)


async def _sweep(core: Coordinator, up: float) -> Round:
    # after a start the leases have a moment: the ends of attempts that the fleet kept for us come first
    swept = await core.database.write(sweep.run_once, with_leases=up >= SWEEP)
    return Round(swept.topics, swept.next_due)


async def _observe(core: Coordinator, up: float) -> Round:
    if not await core.database.read(folding.waits):
        return Round()
    folded = await core.database.write(folding.run_once)
    return Round(next_due=0.0 if folded.more else None)


DUTIES = (
    # one schedule to a round: without a pause, or the last of many that are due at once would be late
    Duty("schedules", _schedules, every=SWEEP, pause=0.0),
    Duty("sweep", _sweep, every=SWEEP),
    # between two batches others have the database
    Duty("observe", _observe, every=OBSERVE, keeps_times=False, pause=0.02),
    Duty("bulk", bulk.run_round, every=bulk.EVERY, keeps_times=False, pause=0.02),
    Duty("holds", holds.run_round, every=EVERY, keeps_times=False, pause=0.02),
    Duty("retention", retention.run_round, every=3600.0, keeps_times=False),
)
