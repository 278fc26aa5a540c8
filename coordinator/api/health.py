"""Whether the process is up, and whether it can serve."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import Connection, select

from coordinator.api.docs import refusals
from coordinator.context import Core
from coordinator.storage.tables import keys

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Whether the process is up")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


class Ready(BaseModel):
    """`duties`: those that this coordinator carries out; of several on one database each duty has one."""

    status: str = "ok"
    duties: list[str]


@router.get("/readyz", summary="Whether the database can be used", responses={503: refusals()[503]})
async def readyz(core: Core) -> Ready:
    """Begins a write and reads: a database that is locked, full or gone answers 503."""

    def usable(conn: Connection, now: float) -> None:
        conn.execute(select(keys.c.id).limit(1)).all()

    await core.database.write(usable)
    return Ready(duties=core.seats.held)
