"""The audit: who did what, from where."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query

from coordinator.access import audit
from coordinator.access.audit import Wanted
from coordinator.api import moments
from coordinator.api.docs import refusals
from coordinator.api.routers import public
from coordinator.context import Core
from coordinator.runs.views import iso
from coordinator.storage.values import decode
from coordinator.wire import AuditEntry, AuditPage

router = public("audit", "/audit")


@router.get("", response_model=AuditPage, summary="Who did what, newest first", responses=refusals(422))
async def listing(
    core: Core,
    project: Annotated[str | None, Query(description="Only what concerns this project")] = None,
    action: Annotated[str | None, Query(description="Only this action, such as deployment.promote")] = None,
    key: Annotated[str | None, Query(description="Only what came with this key: its name or id")] = None,
    outcome: Literal["done", "refused"] | None = None,
    since: Annotated[str | None, Query(description="A time in ISO 8601, or how long ago: 90s, 15m, 2h, 7d")] = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> AuditPage:
    """Requests that changed something, and those that a key was refused; not what schedules do by themselves."""
    moment = None if since is None else moments.since(since)
    wanted = Wanted(project, action, key, moment, None if outcome is None else outcome == "refused")
    rows, following = await core.database.read(audit.listing, wanted, cursor, limit)
    return AuditPage(
        items=[
            AuditEntry(
                id=row.id,
                at=iso(row.at),
                action=row.action,
                outcome="done" if row.done else "refused",
                project=row.project,
                key=row.key_name,
                key_id=row.key_id,
                role=row.role,
                address=row.address,
                target=row.target,
                detail=decode(row.detail),
            )
            for row in rows
        ],
        next=following,
    )
