"""The pool: every container of the live runners, how runs begin, and the containers that have left."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from sqlalchemy import Connection, Row

from coordinator.api.routers import public
from coordinator.attempts import pool
from coordinator.attempts.pool import Began
from coordinator.context import Core
from coordinator.runs import views
from coordinator.storage.values import decode
from coordinator.wire import LifeShown, PoolPage, RunnerState, Sample, StartFigures, WhatIf
from coordinator.wire.pool import START_SLOT

router = public("pool")


@router.get("/pool", response_model=PoolPage, summary="The live runners and their containers")
async def get(
    core: Core,
    project: Annotated[str | None, Query(description="Only what is of this project")] = None,
    left: Annotated[int, Query(ge=0, le=1000, description="Of the containers that have left, how many")] = 50,
) -> PoolPage:
    """As each runner's last heartbeat had it: a few seconds old at most."""

    def read(conn: Connection, now: float) -> tuple[float, list[Row[Any]], list[Row[Any]], list[Began]]:
        return now, pool.live(conn, now), pool.left(conn, now, project, left), pool.began(conn, now)

    now, live, gone, began = await core.database.read(read)
    return PoolPage(
        items=[_runner(row, now, project) for row in live],
        hour=_figures(began, now - 3600, project),
        day=_figures(began, now - 86400, project),
        left=[_left(row) for row in gone],
    )


@router.get("/pool/what-if", response_model=WhatIf, summary="The last day's starts, had there been other memory")
async def what_if(
    core: Core,
    project: Annotated[
        str | None, Query(description="Only the starts of this project, as if it were alone")
    ] = None,
) -> WhatIf:
    """The newest 20,000 starts of the last 24 hours, replayed by the rule that a runner has by default. Made anew
    once a minute.
    """
    return await core.what_ifs.of(core.database, project or None)


def _runner(row: Row[Any], now: float, project: str | None) -> RunnerState:
    containers, used = pool.containers(row, now, project)
    return RunnerState(
        runner=row.name,
        memory=row.memory,
        slots=row.slots,
        task_memory=row.task_memory,
        seen_at=views.iso(row.seen_at),
        used=used,
        containers=containers,
    )


def _left(row: Row[Any]) -> LifeShown:
    return LifeShown(
        container=row.container,
        runner=row.runner,
        project=row.project,
        image=row.image,
        memory=row.memory,
        why=row.why,
        by=views.whose(row.by_project, row.by_task),
        began_at=views.iso(row.began_at),
        left_at=views.iso(row.left_at),
        runs=row.runs,
        task=row.task,
        worth=row.worth,
        memory_runs=[Sample.model_validate(sample) for sample in decode(row.memory_runs)],
    )


def _figures(began: list[Began], since: float, project: str | None) -> StartFigures:
    """Of the slots that were not over by `since`."""
    found = StartFigures()
    for slot in began:
        if slot.at + START_SLOT <= since:
            continue
        for count in slot.counts:
            if project not in (None, count.project):
                continue
            found.runs += count.count
            setattr(found, count.start, getattr(found, count.start) + count.count)
            if count.cause is not None:
                found.causes[count.cause] = found.causes.get(count.cause, 0) + count.count
    if found.runs:
        found.hits = (found.runs - found.cold) / found.runs
    return found
