"""Many runs at once, after a grace in which it may be taken back: asked for, followed, stopped."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from coordinator.api import acts
from coordinator.api.bulk import filter_of, held
from coordinator.api.docs import refusals
from coordinator.api.routers import public
from coordinator.api.scopes import Who
from coordinator.context import Core
from coordinator.foundation.limits import MAX_COUNTED
from coordinator.runs import bulk as many
from coordinator.runs import runs
from coordinator.signals import waking
from coordinator.wire import Bulk, BulkCreate, BulkOutcomes, BulkPage

router = public("runs", "/bulk")


@router.post(
    "",
    status_code=201,
    response_model=Bulk,
    summary="Cancel, replay or dismiss many runs, after a grace",
    responses=refusals(409, 422),
)
async def create(body: BulkCreate, core: Core, who: Who) -> Bulk:
    """All runs that fit now, not those that are made meanwhile. It is carried out whoever waits for it."""
    body = body.model_copy(update={"filter": held(who, body.filter)})
    acts.about(body.filter.project, act=body.act)
    wanted = filter_of(body.filter)
    # before the write, which others wait for
    expected = await core.database.read(runs.count, wanted, MAX_COUNTED)
    row = await core.database.write(many.create, body, wanted, expected, who)
    return many.shown(row)


@router.get("", response_model=BulkPage, summary="What was asked to be done with many runs, newest first")
async def listing(
    core: Core,
    project: str | None = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> BulkPage:
    rows, following = await core.database.read(many.listing, project, cursor, limit)
    return BulkPage(items=[many.shown(row) for row in rows], next=following)


@router.get("/{bulk}", response_model=Bulk, summary="How far one of them has come", responses=refusals(404))
async def get(bulk: str, core: Core) -> Bulk:
    return many.shown(await core.database.read(many.get, bulk))


@router.get(
    "/{bulk}/runs",
    response_model=BulkOutcomes,
    summary="What became of its runs: problems and replays",
    responses=refusals(404),
)
async def outcomes(
    bulk: str,
    core: Core,
    problems: Annotated[bool | None, Query(description="Only problems, or only replays")] = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> BulkOutcomes:
    rows, following = await core.database.read(many.outcomes, bulk, problems, cursor, limit)
    return BulkOutcomes(items=[many.outcome(row) for row in rows], next=following)


@router.post(
    "/{bulk}/take-back", response_model=Bulk, summary="Take one of them back", responses=refusals(404, 409)
)
async def take_back(bulk: str, core: Core) -> Bulk:
    """Before it has begun, nothing was done; afterwards no more is. What was done stays."""
    row = await core.database.write(many.take_back, bulk)
    core.waking.notify(waking.bulk(bulk))
    return many.shown(row)


@router.post("/{bulk}/begin", response_model=Bulk, summary="Begin one of them now", responses=refusals(404, 409))
async def begin(bulk: str, core: Core) -> Bulk:
    """Without the rest of its grace. One that has begun stays as it is."""
    row = await core.database.write(many.hurry, bulk)
    core.waking.notify(waking.bulk(bulk))
    return many.shown(row)
