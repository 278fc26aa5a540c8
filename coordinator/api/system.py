"""The coordinator itself: how it does, what runs wait for, and links that sign in to the dashboard."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import Query, Request

from coordinator.access import sessions
from coordinator.api.docs import refusals
from coordinator.api.routers import public
from coordinator.api.scopes import Who
from coordinator.context import Core
from coordinator.history import volumes
from coordinator.maintenance.duties import DUTIES
from coordinator.maintenance.retention import KINDS
from coordinator.runs import views
from coordinator.storage import dialect
from coordinator.waits import waits
from coordinator.wire import (
    LinkRequest,
    PendingWait,
    PendingWaits,
    ProjectBytes,
    Retained,
    SignInLink,
    System,
    TableSize,
    WaitKind,
)

router = public("system")

_BEGAN = time.monotonic()


@router.get("/system", response_model=System, summary="How the coordinator does")
async def system(core: Core, request: Request) -> System:
    """Of the one that answers: where there are several, each has its own duties."""
    began = time.perf_counter()
    await core.database.check()
    took = time.perf_counter() - began
    sizes = await core.database.read(dialect.table_sizes)
    logged = await core.database.read(volumes.log_bytes, core.settings.retention_runs)
    quota = core.database.quota
    return System(
        version=request.app.version,
        database=core.database.name,
        database_ms=took * 1000,
        up=time.monotonic() - _BEGAN,
        duties=core.seats.held,
        all_duties=[duty.name for duty in DUTIES],
        disk_free=quota.free() if quota is not None else 0,
        disk_least_free=core.settings.least_free,
        tables=[TableSize(table=name, rows=rows) for name, rows in sizes],
        retention=[Retained(what=kind.name, seconds=kind.keep(core.settings)) for kind in KINDS],
        projects=[
            ProjectBytes(
                project=one.project,
                logs_day=one.day,
                logs_kept=one.kept,
                stored=None if quota is None else quota.known_bytes(one.project),
            )
            for one in logged
        ],
        project_bytes=core.settings.project_bytes,
    )


@router.get("/waits", response_model=PendingWaits, summary="What runs wait for", responses=refusals(422))
async def pending(
    core: Core,
    project: str | None = None,
    kind: Annotated[WaitKind, Query(description="What kind of thing")] = "token",
    after: Annotated[str | None, Query(description="The `next` of an earlier page")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> PendingWaits:
    """Of the newest runs first. The id of a token completes it, so it is told to its run alone."""
    rows, following = await core.database.read(waits.listing, project, kind, after, limit)
    return PendingWaits(
        items=[
            PendingWait(
                run=row.run_id,
                project=row.project,
                task=row.task,
                key=row.key,
                kind=row.kind,
                name=row.name,
                created_at=views.iso(row.created_at),
                until=views.iso(row.due_at),
            )
            for row in rows
        ],
        next=following,
    )


@router.post(
    "/dashboard/link", status_code=201, response_model=SignInLink, summary="Make a link that signs in once"
)
async def link(body: LinkRequest, core: Core, who: Who, request: Request) -> SignInLink:
    """For a browser on the coordinator's own host, within a quarter of an hour."""
    secret, until = await core.database.write(sessions.make_link, who.id, body.path)
    return SignInLink(url=f"{str(request.base_url).rstrip('/')}/login/{secret}", expires_at=views.iso(until))
