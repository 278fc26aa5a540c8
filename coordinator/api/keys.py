"""Keys: make, list, revoke. A key itself is answered once, when it is made."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from coordinator.access import keys
from coordinator.api.docs import refusals
from coordinator.api.routers import public
from coordinator.context import Core
from coordinator.runs import views
from coordinator.signals import waking
from coordinator.signals.waking import KEYS
from coordinator.wire import Key, KeyPage, KeyRequest, NewKey

router = public("keys", "/keys")


@router.post("", status_code=201, response_model=NewKey, summary="Make a key", responses=refusals(404, 409, 422))
async def create(body: KeyRequest, core: Core) -> NewKey:
    """`key` is in this answer and nowhere else: only its SHA-256 is kept."""
    row, key = await core.database.write(keys.create, body.name, body.role, body.project)
    return NewKey(**views.key(row).model_dump(), key=key)


@router.get("", response_model=KeyPage, summary="List keys, revoked ones too")
async def listing(
    core: Core, cursor: str | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 100
) -> KeyPage:
    found, following = await core.database.read(keys.listing, cursor, limit)
    return KeyPage(items=[views.key(row) for row in found], next=following)


@router.delete("/{key}", response_model=Key, summary="Revoke a key", responses=refusals(404, 409))
async def revoke(key: str, core: Core) -> Key:
    """By its id or name. It stops working at once, also at other coordinators that hear of this one; where they
    do not, within 5 seconds. What a runner of this key has goes to other hosts.
    """
    row = await core.database.write(keys.revoke, key)
    core.callers.forget()
    core.waking.notify(KEYS, waking.DUE)
    return views.key(row)
