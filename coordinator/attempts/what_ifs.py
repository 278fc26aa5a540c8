"""What-ifs that were made lately, and those that are being made: each once for all who ask, one at a time."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress

from cachetools import TTLCache
from sqlalchemy import Connection

from coordinator.attempts import what_if
from coordinator.attempts.what_if import Day
from coordinator.confined import REPLAYS
from coordinator.foundation.errors import CoordinatorError
from coordinator.foundation.times import iso
from coordinator.storage.database import Database
from coordinator.wire import WhatIf, WhatIfPoint

#: Seconds for which one is shown again, and projects of which one is kept.
_AGE, _MOST = 60.0, 256


class TooMuchToReplay(CoordinatorError):
    """The replay did not end in its time."""

    status = 503
    code = "too_much_to_replay"


class WhatIfs:
    """Used from the event loop's thread only. By project; None: of all."""

    def __init__(self) -> None:
        self._known: TTLCache[str | None, WhatIf] = TTLCache(_MOST, _AGE)
        self._making: dict[str | None, asyncio.Task[WhatIf]] = {}
        self._turn = asyncio.Lock()

    async def of(self, database: Database, project: str | None) -> WhatIf:
        """Raises StorageUnavailable, TooMuchToReplay."""
        known = self._known.get(project)
        if known is not None:
            return known
        making = self._making.get(project)
        if making is None:
            making = self._making[project] = asyncio.create_task(self._make(database, project))
            making.add_done_callback(lambda done: self._made(project, done))
        # whoever asked first may go away: others wait for the same
        return await asyncio.shield(making)

    def _made(self, project: str | None, done: asyncio.Task[WhatIf]) -> None:
        del self._making[project]
        if not done.cancelled() and done.exception() is None:
            self._known[project] = done.result()

    async def _make(self, database: Database, project: str | None) -> WhatIf:
        async with self._turn:

            def read(conn: Connection, now: float) -> tuple[Day, float]:
                return what_if.read(conn, now, project), now

            day, now = await database.read(read)
            points = await _replayed(day)
        return WhatIf(
            made_at=iso(now),
            since=iso(day.since),
            cut_short=day.cut_short,
            memory=day.memory,
            runs=day.runs,
            cold_ratio=day.cold / day.runs if day.runs else None,
            mean_delay_ms=1000 * day.delay / day.runs if day.runs else None,
            points=points,
        )


async def _replayed(day: Day) -> list[WhatIfPoint]:
    if not day.memories:
        return []
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "coordinator.keeping.replaying",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        # the interpreter alone: no variable of this process is any of its business
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        async with asyncio.timeout(REPLAYS.deadline):
            said, _ = await child.communicate(day.request)
        figures = json.loads(said)
    except (TimeoutError, ValueError):
        raise TooMuchToReplay(
            f"{day.runs} starts could not be replayed within {REPLAYS.deadline:g} s: this host has too much "
            "else to do; try again later"
        ) from None
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    return [
        WhatIfPoint(memory=memory, **{name: found[name] for name in WhatIfPoint.model_fields if name in found})
        for memory, found in zip(day.memories, figures, strict=True)
    ]
