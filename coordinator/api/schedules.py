"""Schedules: list, look ahead, pause and resume."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Response

from coordinator.api.docs import refusals
from coordinator.api.routers import public
from coordinator.context import Core
from coordinator.runs import views
from coordinator.signals import waking
from coordinator.sources import schedule_edits, schedules
from coordinator.wire import Schedule, ScheduleCreate, SchedulePage, SchedulePatch, TickTime, TickTimes

router = public("schedules", "/schedules")


@router.get("", response_model=SchedulePage, summary="List the schedules of the current deployments")
async def listing(
    core: Core,
    project: str | None = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> SchedulePage:
    found, following = await core.database.read(schedules.listing, project, cursor, limit)
    return SchedulePage(items=[views.schedule(row) for row in found], next=following)


@router.get("/{schedule}", response_model=Schedule, summary="A schedule", responses=refusals(404))
async def get(schedule: str, core: Core) -> Schedule:
    return views.schedule(await core.database.read(schedules.get, schedule))


@router.get("/{schedule}/next", response_model=TickTimes, summary="Its next ticks", responses=refusals(404, 422))
async def upcoming(
    schedule: str, core: Core, count: Annotated[int, Query(ge=1, le=100, description="How many")] = 5
) -> TickTimes:
    """Of a paused schedule: the ticks it would have if it were resumed now."""
    found = await core.database.read(schedules.upcoming, schedule, count)
    return TickTimes(items=[TickTime(at=views.iso(at), local=local) for at, local in found])


@router.post(
    "",
    status_code=201,
    response_model=Schedule,
    summary="Make a schedule",
    responses={200: {"model": Schedule, "description": "It is there already"}, **refusals(404, 409, 413, 422)},
)
async def create(body: ScheduleCreate, core: Core, response: Response) -> Schedule:
    """Beside the one that the task's code may have; known by its task and name. Deployments leave it alone."""
    row, made = await core.database.write(schedule_edits.create, body, core.payloads)
    if not made:
        response.status_code = 200
    core.waking.notify(waking.DUE)
    return views.schedule(row)


@router.patch(
    "/{schedule}",
    response_model=Schedule,
    summary="Pause, resume or change",
    responses=refusals(404, 409, 413, 422),
)
async def change(schedule: str, body: SchedulePatch, core: Core) -> Schedule:
    """Ticks of the time in which it was paused are not made up, whatever its `catchup`."""
    row = await core.database.write(schedule_edits.change, schedule, body, core.payloads)
    core.waking.notify(waking.DUE)
    return views.schedule(row)


@router.delete("/{schedule}", status_code=204, summary="Remove a schedule", responses=refusals(404, 409))
async def remove(schedule: str, core: Core) -> None:
    """One that was made over the API; its runs stay."""
    await core.database.write(schedule_edits.remove, schedule)
