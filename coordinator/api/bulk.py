"""Many runs at once: cancel, replay or dismiss all that fit a filter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import Row

from coordinator.access.keys import Caller
from coordinator.api import moments
from coordinator.api.docs import refusals
from coordinator.api.routers import public
from coordinator.api.runs import create
from coordinator.api.scopes import Who
from coordinator.context import Coordinator, Core
from coordinator.foundation.errors import NotFound, Refused, invalid_field
from coordinator.runs import cancelling, failures, plans, runs
from coordinator.runs.filters import Filter, meant
from coordinator.wire import BulkAnswer, BulkItem, BulkRequest, ReplayRequest, RunFilter

router = public("runs")

Act = Callable[[Coordinator, Row[Any]], Awaitable[BulkItem]]


@router.post("/runs/cancel", response_model=BulkAnswer, summary="Cancel many runs", responses=refusals(422))
async def cancel(body: BulkRequest, core: Core, who: Who) -> BulkAnswer:
    """As canceling each of them: those that have ended already stay as they are."""
    return await _each(core, _held(who, body), _cancel)


@router.post("/runs/replay", response_model=BulkAnswer, summary="Replay many runs", responses=refusals(422))
async def replay(body: BulkRequest, core: Core, who: Who) -> BulkAnswer:
    """A new run for each that has ended. A run that can't be replayed is named, and keeps no other from it.

    Replayed runs leave the dead-letter list: the same request for that list, sent again, replays none twice.
    """

    async def act(core: Coordinator, row: Row[Any]) -> BulkItem:
        return await _replay(core, row, body.version)

    return await _each(core, _held(who, body), act)


@router.post(
    "/runs/dismiss", response_model=BulkAnswer, summary="Dismiss many dead letters", responses=refusals(422)
)
async def dismiss(body: BulkRequest, core: Core, who: Who) -> BulkAnswer:
    return await _each(core, _held(who, body), _dismiss)


def _held(who: Caller, body: BulkRequest) -> BulkRequest:
    return body.model_copy(update={"filter": held(who, body.filter)})


def held(who: Caller, wanted: RunFilter) -> RunFilter:
    """The filter of a key that sees one project, about that project. Raises NotFound."""
    if who.project is None:
        return wanted
    if wanted.project not in (None, who.project):
        raise NotFound(f"there is no project {wanted.project!r} for this key, which sees {who.project}")
    if wanted == RunFilter():
        return wanted  # which is refused
    return wanted.model_copy(update={"project": who.project})


async def _each(core: Coordinator, body: BulkRequest, act: Act) -> BulkAnswer:
    rows, following = await core.database.read(runs.listing, filter_of(body.filter, body.cursor, body.limit))
    items = []
    for row in rows:
        if body.dry_run:
            items.append(_item(row))
            continue
        try:
            items.append(await act(core, row))
        except Refused as error:
            items.append(_item(row, problem=error.message))
    return BulkAnswer(items=items, next=following)


async def _cancel(core: Coordinator, row: Row[Any]) -> BulkItem:
    canceled = await core.database.write(cancelling.cancel, row.id)
    core.waking.notify(*canceled.topics)
    return _item(canceled.run)


async def _replay(core: Coordinator, row: Row[Any], version: str | None) -> BulkItem:
    if row.finished_at is None:
        return _item(row, problem=f"it is {row.status}: only a run that has ended is replayed with others")
    planned = await core.database.read(plans.plan_replay, row.id, ReplayRequest(version=version), core.payloads)
    made = await create(core, planned)
    return _item(row, replay=made.run.id)


async def _dismiss(core: Coordinator, row: Row[Any]) -> BulkItem:
    return _item(await core.database.write(failures.dismiss, row.id))


def _item(row: Row[Any], **fields: Any) -> BulkItem:
    return BulkItem(run=row.id, task=f"{row.project}/{row.task}", status=row.status, **fields)


def filter_of(wanted: RunFilter, cursor: str | None = None, limit: int = 1) -> Filter:
    """Raises Invalid for the filter that is empty."""
    if wanted == RunFilter():
        raise invalid_field("filter", "is empty and would mean every run: give at least one condition")
    return meant(wanted, moments.since)._replace(cursor=cursor, limit=limit)
