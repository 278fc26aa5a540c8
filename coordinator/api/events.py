"""Events: send one, and see what was sent."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Response

from coordinator.api.docs import refusals
from coordinator.api.routers import public
from coordinator.api.scopes import Who
from coordinator.context import Core
from coordinator.foundation.errors import NotFound
from coordinator.runs import views
from coordinator.sources import events
from coordinator.wire import Event, EventPage, EventRequest

router = public("events", "/events")


@router.post(
    "",
    status_code=201,
    response_model=Event,
    summary="Send an event",
    responses={
        200: {"model": Event, "description": "What this id was sent with before, and what it caused then"},
        **refusals(404, 409, 413, 422),
    },
)
async def send(body: EventRequest, core: Core, who: Who, response: Response) -> Event:
    """Makes a run of every task that listens to it. When this is answered, the event and its runs are durable.

    A task that can't take it (its schema, its queue's rate) stands in `problems`, and keeps no other from its run.
    """
    if who.project is not None:
        if body.project not in (None, who.project):
            raise NotFound(f"there is no project {body.project!r} for this key", code="unknown_project")
        body.project = who.project
    emitted = await core.database.write(events.emit, body, core.payloads)
    core.waking.notify(*emitted.topics)
    if not emitted.created:
        response.status_code = 200
    return views.event(emitted.event, emitted.runs)


@router.get("", response_model=EventPage, summary="List events, newest first")
async def listing(
    core: Core,
    project: str | None = None,
    name: str | None = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> EventPage:
    found, following = await core.database.read(events.listing, project, name, cursor, limit)
    return EventPage(items=[views.event(row, runs) for row, runs in found], next=following)
