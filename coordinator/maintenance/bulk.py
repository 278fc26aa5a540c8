"""The duty `bulk`: what was asked to be done with many runs is done, a few at a time, in the name of who asked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Row

from coordinator.access.audit import Act
from coordinator.access.keys import Caller
from coordinator.context import Coordinator
from coordinator.foundation import sight
from coordinator.foundation.errors import Refused, StorageUnavailable
from coordinator.maintenance.duty import Round
from coordinator.runs import bulk, plans
from coordinator.runs.bulk import Superseded
from coordinator.runs.filters import Filter, meant
from coordinator.storage import deeds
from coordinator.storage.values import decode
from coordinator.wire import FINAL, ReplayRequest, RunFilter

log = structlog.get_logger()

#: Runs that one round sees to, each in a transaction of its own: between two rounds another one has its turn.
BATCH = 25
#: Seconds between two looks whether one is to begin.
EVERY = 1.0


async def run_round(core: Coordinator, up: float) -> Round:
    found = await core.database.read(bulk.due)
    if found.row is None:
        return Round(next_due=found.left)
    row = await core.database.write(bulk.begin, found.row.id)
    if row is not None:
        await _in_the_name_of(core, row)
    return Round({bulk.topic(found.row.id)}, next_due=0.0)


async def _in_the_name_of(core: Coordinator, row: Row[Any]) -> None:
    """One batch: seen, held and noted as if who asked for it did it."""
    caller = Caller(row.role, row.project, row.key_id, row.key_name)
    act = Act(f"run.{row.act}", "", caller, row.project, many=True, detail={"bulk": row.id})
    seen, noted = sight.project.set(row.project), deeds.current.set(act)
    try:
        await _batch(core, row)
    except Superseded:
        log.info("a bulk is over, or somebody else's", bulk=row.id)
    finally:
        deeds.current.reset(noted)
        sight.project.reset(seen)


async def _batch(core: Coordinator, row: Row[Any]) -> None:
    page = await core.database.read(bulk.page, row, filter_of(row)._replace(limit=BATCH))
    before = row.cursor
    for run in page:
        try:
            done = await _see_to(core, row, before, run)
            core.waking.notify(*done.topics)
        except (Superseded, StorageUnavailable):
            raise
        except Exception as error:
            if not isinstance(error, Refused):
                log.exception("a bulk could not see to a run", bulk=row.id, run=run.id)
            problem = error.message if isinstance(error, Refused) else "the coordinator failed; its log says why"
            await _quietly(core, bulk.give_up, row.id, before, run.id, problem)
        before = run.id
    if len(page) < BATCH:
        await _quietly(core, bulk.finish, row.id, before)


async def _quietly(core: Coordinator, function: Callable[..., None], *given: str) -> None:
    """A transaction that does nothing to a run, and of which the audit says nothing."""
    noted = deeds.current.set(None)
    try:
        await core.database.write(function, *given)
    finally:
        deeds.current.reset(noted)


async def _see_to(core: Coordinator, row: Row[Any], before: str, run: Row[Any]) -> bulk.Done:
    planned = None
    if row.act == "replay":
        if run.status not in FINAL:
            raise Refused(f"it is {run.status}: only a run that has ended is replayed with others")
        body = ReplayRequest(version=row.version)
        planned = await core.database.read(plans.plan_replay, run.id, body, core.payloads)
    return await core.database.write(bulk.see_to, row.id, before, run.id, row.act, planned)


def filter_of(row: Row[Any]) -> Filter:
    return meant(
        RunFilter.model_validate(decode(row.filter)), lambda text, field: datetime.fromisoformat(text).timestamp()
    )
