"""Secrets: set, list, remove. No answer ever has a value."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Query, Response

from coordinator.access import secrets
from coordinator.api import acts
from coordinator.api.docs import refusals
from coordinator.api.routers import public
from coordinator.context import Core
from coordinator.runs import views
from coordinator.wire import Rotated, Rotation, Secret, SecretPage, SecretPut

router = public("secrets", "/secrets")

Project = Annotated[str | None, Query(description="The project it belongs to; default: every project")]


@router.put(
    "/{name:path}",
    response_model=Secret,
    summary="Set a secret",
    responses={201: {"model": Secret, "description": "It is a new one"}, **refusals(413, 422)},
)
async def put(name: str, body: SecretPut, core: Core, response: Response, project: Project = None) -> Secret:
    """Stores it sealed, in the place of an earlier one. `name` is such as an environment variable has."""
    place = project or secrets.EVERYWHERE
    value = secrets.check(place, name, body.value)
    first = await core.database.read(secrets.none_sealed)
    sealed = await asyncio.to_thread(core.vault.seal, place, name, value, create=first)
    row, created = await core.database.write(secrets.put, place, name, sealed)
    if created:
        response.status_code = 201
    return views.secret(row)


@router.post("/rotate", response_model=Rotated, summary="Rotate the master key", responses=refusals(503))
async def rotate(body: Rotation, core: Core) -> Rotated:
    """A new key seals every secret anew, of all projects. `drop_old`: earlier keys go, and with them what opens the
    secrets in backups of the database.
    """
    first = await core.database.read(secrets.none_sealed)
    key = await asyncio.to_thread(core.vault.add, create=first)
    sealed = await core.database.write(secrets.seal_anew, core.vault)
    unopened = await core.database.read(secrets.sealed_by_others, key)
    dropped = 0
    if body.drop_old and not unopened:
        dropped = await asyncio.to_thread(core.vault.drop_all_but, {key})
    acts.about(key=key, sealed=sealed, dropped=dropped)
    return Rotated(key=key, sealed=sealed, unopened=unopened, dropped=dropped)


@router.get("", response_model=SecretPage, summary="List secrets, without their values")
async def listing(
    core: Core,
    project: Annotated[str | None, Query(description="Only what this project can use")] = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> SecretPage:
    found, following = await core.database.read(secrets.listing, project, cursor, limit)
    return SecretPage(items=[views.secret(row) for row in found], next=following)


@router.delete("/{name:path}", response_model=Secret, summary="Remove a secret", responses=refusals(404))
async def remove(name: str, core: Core, project: Project = None) -> Secret:
    return views.secret(await core.database.write(secrets.remove, project or secrets.EVERYWHERE, name))
