"""Whether the process is up, and whether it can serve."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from coordinator.api.docs import refusals
from coordinator.api.routers import open_to_all
from coordinator.context import Core
from coordinator.wire.basics import Names

router = open_to_all("health")


@router.get("/healthz", summary="Whether the process is up")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


class Ready(BaseModel):
    """`duties`: those that this coordinator carries out; of several on one database each duty has one."""

    status: Literal["ok"] = "ok"
    duties: Names


@router.get("/readyz", summary="Whether the database can be used", responses={503: refusals()[503]})
async def readyz(core: Core) -> Ready:
    """A database that is locked, full or gone answers 503: it is read, and the last write is looked at."""
    await core.database.check()
    return Ready(duties=core.seats.held)
