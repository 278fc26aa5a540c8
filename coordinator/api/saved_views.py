"""Saved views: the addresses that a key keeps under names, for whoever signs in with it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query, Response
from sqlalchemy import Row

from coordinator.access import saved_views
from coordinator.api.docs import refusals
from coordinator.api.routers import public
from coordinator.api.scopes import Who
from coordinator.context import Core
from coordinator.foundation.errors import invalid_field
from coordinator.runs import views
from coordinator.wire import SavedView, SavedViewPut, SavedViews

router = public("views", "/views")

Named = Annotated[str, Path(min_length=1, max_length=80)]


@router.get("", response_model=SavedViews, summary="List the views that this key has saved")
async def listing(
    core: Core,
    who: Who,
    page: Annotated[str | None, Query(max_length=2000, description="Only those of this page")] = None,
) -> SavedViews:
    """By their names; 50 at most."""
    rows = await core.database.read(saved_views.listing, who.id)
    of_page = [row for row in rows if page is None or row.address.partition("?")[0] == page]
    return SavedViews(items=[_view(row) for row in of_page])


@router.put(
    "/{name:path}",
    response_model=SavedView,
    summary="Save a view",
    responses={201: {"model": SavedView, "description": "It is a new one"}, **refusals(409, 422)},
)
async def put(name: Named, body: SavedViewPut, core: Core, who: Who, response: Response) -> SavedView:
    """An address of the dashboard's own, in the place of what this key had under the name. 409 `too_many`."""
    if not name.isprintable() or name.strip() != name:
        raise invalid_field("name", f"{name!r}: take letters that can be seen, without spaces around them")
    row, created = await core.database.write(saved_views.put, who.id, name, body.address)
    if created:
        response.status_code = 201
    return _view(row)


@router.delete("/{name:path}", response_model=SavedView, summary="Remove a view", responses=refusals(404))
async def remove(name: Named, core: Core, who: Who) -> SavedView:
    return _view(await core.database.write(saved_views.remove, who.id, name))


def _view(row: Row[Any]) -> SavedView:
    return SavedView(name=row.name, address=row.address, created_at=views.iso(row.created_at))
