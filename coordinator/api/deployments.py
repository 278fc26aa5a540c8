"""Deployments: upload, list, promote, roll back, and the log of a build."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request
from sqlalchemy import Row

from coordinator.api import acts
from coordinator.api.docs import refusals
from coordinator.api.polling import parse_position, poll
from coordinator.api.routers import public
from coordinator.api.scopes import Who
from coordinator.context import Coordinator, Core
from coordinator.deployments import deployments, rebuilds
from coordinator.foundation.errors import Forbidden
from coordinator.foundation.limits import MAX_SOURCE
from coordinator.runs import views
from coordinator.signals import waking
from coordinator.storage import quota
from coordinator.wire import (
    BuildLogLine,
    BuildLogPage,
    Deployment,
    DeploymentPage,
)

router = public("deployments")


@router.post(
    "/deployments",
    status_code=201,
    response_model=Deployment,
    summary="Deploy a project",
    responses=refusals(413, 422),
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "A tar of the project's directory, plain or gzip, with samovar.toml at its top",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def deploy(
    request: Request,
    core: Core,
    who: Who,
    promote: Annotated[bool, Query(description="Whether new runs get it as soon as it is built")] = True,
    force: Annotated[bool, Query(description="Also where a finding blocks that")] = False,
) -> Deployment:
    """Stores the source and gives it the day's next version. A runner builds it: follow the build's log.

    When it is built, it is held against the current version: `findings` names what it changes for runs that are
    under way and for what calls tasks. With one that `blocks`, it is ready and not promoted.
    """
    with core.blobs.arriving() as uploaded:
        await core.blobs.spool(request.stream(), uploaded, MAX_SOURCE, "the project's source")
        blob, project = await core.uploads.prepare(f"{who.role} {who.project}", uploaded)
    if who.project not in (None, project):
        raise Forbidden(f"this key is for the project {who.project}; this is the source of {project}")
    acts.about(project=project)
    size = core.blobs.path(blob).stat().st_size
    await core.database.read(quota.check_bytes, project, size)
    deployment = await core.database.write(deployments.create, project, blob, promote, force)
    core.waking.notify(waking.BUILDS)
    return await _deployment(core, deployment)


@router.get("/deployments", response_model=DeploymentPage, summary="List deployments, newest first")
async def listing(
    core: Core,
    project: str | None = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> DeploymentPage:
    found, following = await core.database.read(deployments.listing, project, cursor, limit)
    return DeploymentPage(items=[views.deployment(row, tasks) for row, tasks in found], next=following)


@router.get("/deployments/{deployment}", response_model=Deployment, summary="A deployment", responses=refusals(404))
async def get(deployment: str, core: Core) -> Deployment:
    return await _deployment(core, deployment)


@router.get(
    "/deployments/{deployment}/log",
    response_model=BuildLogPage,
    summary="The log of a build (long poll)",
    responses=refusals(404, 422),
)
async def log(
    deployment: str,
    request: Request,
    core: Core,
    after: Annotated[str | None, Query(description="The `next` of an earlier page")] = None,
    timeout: Annotated[float, Query(ge=0, allow_inf_nan=False)] = 0.0,
    limit: Annotated[int, Query(ge=1, le=5000)] = 500,
) -> BuildLogPage:
    """Answers as soon as there are lines after `after` or the build has ended, and after `timeout` seconds
    (60 at most) in any case. `done` says that the build has ended and no line is left.
    """
    position = parse_position(after)

    async def look() -> tuple[list[Row[Any]], bool] | None:
        lines, done = await core.database.read(deployments.read_log, deployment, position, limit)
        return (lines, done) if lines or done else None

    lines, done = await poll(request, core, [waking.build(deployment)], timeout, look) or ([], False)
    return BuildLogPage(
        items=[BuildLogLine(seq=line.seq, at=views.iso(line.at), message=line.line) for line in lines],
        next=str(lines[-1].seq if lines else position),
        done=done,
    )


@router.post(
    "/deployments/{deployment}/promote",
    response_model=Deployment,
    summary="Give new runs this deployment",
    responses=refusals(404, 409, 422),
)
async def promote(
    deployment: str, core: Core, force: Annotated[bool, Query(description="Also where a finding blocks it")] = False
) -> Deployment:
    """Runs that exist keep theirs. Refused (`breaks_runs`) where a finding blocks it, each named in `fields`."""
    await core.database.write(deployments.promote, deployment, force)
    core.waking.notify(waking.DUE)
    return await _deployment(core, deployment)


@router.post(
    "/deployments/{deployment}/rebuild",
    response_model=Deployment,
    summary="Build a deployment's image again",
    responses=refusals(404, 409),
)
async def rebuild(deployment: str, core: Core) -> Deployment:
    """From the kept source, under the same version; its queued runs wait until the image is there.

    A runner that misses an image asks for this by itself. Where a try has failed, this is the next one, at once.
    """
    await core.database.write(rebuilds.ask, deployment)
    core.waking.notify(waking.BUILDS)
    return await _deployment(core, deployment)


@router.post(
    "/projects/{project}/rollback",
    response_model=Deployment,
    summary="Give new runs the deployment before the current one",
    responses=refusals(404, 409),
)
async def rollback(project: str, core: Core) -> Deployment:
    deployment = await core.database.write(deployments.rollback, project)
    core.waking.notify(waking.DUE)
    return await _deployment(core, deployment)


async def _deployment(core: Coordinator, deployment: str) -> Deployment:
    row, tasks = await core.database.read(deployments.get, deployment)
    return views.deployment(row, tasks)
