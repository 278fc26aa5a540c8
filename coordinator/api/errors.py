"""Errors in groups: looked at, resolved, muted, open again."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from coordinator.api import acts, moments
from coordinator.api.docs import refusals
from coordinator.api.history import split
from coordinator.api.routers import public
from coordinator.context import Core
from coordinator.history import errors
from coordinator.wire import ErrorGroup, ErrorPage, MuteRequest, ResolveRequest
from coordinator.wire.history import ErrorStatus

router = public("errors", "/errors")


@router.get("", response_model=ErrorPage, summary="Errors in groups, last seen first", responses=refusals(422))
async def listing(
    core: Core,
    project: Annotated[str | None, Query(description="Only those of this project")] = None,
    status: Annotated[ErrorStatus | None, Query(description="Only these")] = None,
    task: Annotated[str | None, Query(description="Only those that this task was seen with lately")] = None,
    since: Annotated[str | None, Query(description="Only those seen since then: a time, or how long ago")] = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> ErrorPage:
    """All that have one fingerprint in a project are one. What ended a moment ago is counted within seconds."""
    of, name = split(project, task)
    moment = None if since is None else moments.since(since)
    wanted = errors.Wanted(of, status, name, moment, cursor, limit)
    items, following = await core.database.read(errors.listing, wanted)
    return ErrorPage(items=items, next=following)


@router.get("/{project}/{fingerprint}", response_model=ErrorGroup, summary="An error", responses=refusals(404))
async def get(project: str, fingerprint: str, core: Core) -> ErrorGroup:
    """Its runs are those of `GET /runs?error=`."""
    return await core.database.read(errors.get, project, fingerprint)


@router.post(
    "/{project}/{fingerprint}/resolve",
    response_model=ErrorGroup,
    summary="Say that an error does not happen any more",
    responses=refusals(404, 422),
)
async def resolve(project: str, fingerprint: str, core: Core, body: ResolveRequest | None = None) -> ErrorGroup:
    """It is open again as soon as it is seen in a later version, or in this one from now on."""
    version = None if body is None else body.version
    changed = await core.database.write(errors.resolve, project, fingerprint, version)
    acts.about(version=changed.resolved_version)
    return changed


@router.post(
    "/{project}/{fingerprint}/mute",
    response_model=ErrorGroup,
    summary="Hear nothing of an error for a time",
    responses=refusals(404, 422),
)
async def mute(project: str, fingerprint: str, body: MuteRequest, core: Core) -> ErrorGroup:
    """It is counted as before."""
    until = moments.until(body.until)
    acts.about(until=body.until)
    return await core.database.write(errors.mute, project, fingerprint, until)


@router.post(
    "/{project}/{fingerprint}/reopen",
    response_model=ErrorGroup,
    summary="Take back what was said of an error",
    responses=refusals(404),
)
async def reopen(project: str, fingerprint: str, core: Core) -> ErrorGroup:
    """It is neither resolved nor muted any more."""
    return await core.database.write(errors.reopen, project, fingerprint)
