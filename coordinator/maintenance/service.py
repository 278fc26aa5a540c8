"""Runs the duties that this coordinator holds, each in a task of its own: a long one keeps no other waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import structlog

from coordinator.context import Coordinator
from coordinator.foundation.errors import StorageUnavailable
from coordinator.maintenance.duty import Duty
from coordinator.signals import waking

log = structlog.get_logger()

_AFTER_FAILURE = 1.0


class Maintenance:
    """For as long as the server runs."""

    def __init__(self, core: Coordinator, duties: Sequence[Duty]) -> None:
        self._core = core
        self._duties = duties

    async def run(self) -> None:
        self._since = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for duty in self._duties:
                group.create_task(self._keep(duty), name=duty.name)

    async def _keep(self, duty: Duty) -> None:
        bell, seat = self._core.waking, self._core.seats.of(duty.name)
        with bell.listen(*([waking.DUE] if duty.keeps_times else [])) as nearer:
            while not bell.closed:
                await seat.wait()
                nearer.clear()
                pause = await self._round(duty)
                if pause > 0:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(nearer.wait(), pause)
                await asyncio.sleep(duty.pause)

    async def _round(self, duty: Duty) -> float:
        """Seconds until the next one."""
        up = asyncio.get_running_loop().time() - self._since
        try:
            done = await duty.round(self._core, up)
        except StorageUnavailable as error:
            log.error("a duty has to wait", duty=duty.name, problem=str(error))
            return _AFTER_FAILURE
        except Exception:
            # one bad row must not stop the leases of all others from running out
            log.exception("a duty failed", duty=duty.name)
            return _AFTER_FAILURE
        self._core.waking.notify(*done.topics)
        return duty.every if done.next_due is None else min(duty.every, done.next_due)
