"""Queues: what is in them, live changes; and why a run is not running."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from coordinator import why
from coordinator.api import acts
from coordinator.api.docs import refusals
from coordinator.api.routers import public
from coordinator.context import Core
from coordinator.foundation.times import iso
from coordinator.line import queues
from coordinator.runs import views
from coordinator.signals import waking
from coordinator.wire import InLine, KeyState, KeyStates, QueuePage, QueuePatch, QueueState, Why

router = public("queues")

OfProject = Annotated[str | None, Query(description="Where several projects have a queue of this name")]


@router.get("/queues", response_model=QueuePage, summary="Queues: their limits, and what is in them")
async def listing(
    core: Core,
    project: str | None = None,
    oldest: Annotated[
        bool,
        Query(description="With the run of each that is in line for longest, of the 5,000 oldest"),
    ] = False,
) -> QueuePage:
    """A task that declares no queue has one of its own, `task/` and its id, without a limit."""
    items = [views.queue(*found) for found in await core.database.read(queues.listing, project)]
    if oldest and any(item.queued for item in items):
        found = await core.database.read(queues.oldest, project)
        for item in items:
            if (first := found.get((item.project, item.name))) is not None:
                item.oldest = InLine(run=first[0], created_at=iso(first[1]))
    return QueuePage(items=items)


@router.get(
    "/queues/{queue:path}/keys",
    response_model=KeyStates,
    summary="The concurrency keys of a queue",
    responses=refusals(404, 409, 422),
)
async def keys(
    queue: str,
    core: Core,
    project: OfProject = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> KeyStates:
    """Those that have runs running or in line, the most of them first."""
    whose, found, more = await core.database.read(queues.keys, queue, project, limit)
    items = [KeyState(key=key, running=running, queued=queued) for key, running, queued in found]
    return KeyStates(project=whose, queue=queue, items=items, more=more)


@router.patch(
    "/queues/{queue:path}",
    response_model=QueueState,
    summary="Change a queue live",
    responses=refusals(404, 409, 422),
)
async def change(
    queue: str,
    body: QueuePatch,
    core: Core,
    project: OfProject = None,
) -> QueueState:
    """A live change stays until it is changed again, also when the project is deployed anew."""
    acts.about(**body.model_dump(exclude_unset=True, mode="json"))
    changed = await core.database.write(queues.change, queue, project, body)
    core.waking.notify(waking.CLAIMS)
    return views.queue(*changed)


@router.get("/runs/{run}/why", response_model=Why, summary="Why a run is not running", responses=refusals(404))
async def explain(run: str, core: Core) -> Why:
    return await core.database.read(why.explain, run, core.settings.max_running)
