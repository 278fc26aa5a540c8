"""What the sidecar calls for the files of an attempt, with the attempt's own secret."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import FileResponse

from coordinator.api.files import contents
from coordinator.api.routers import fleet
from coordinator.context import Core
from coordinator.files import files, receiving
from coordinator.wire import ArtifactCall, Received

router = fleet("/attempts/{attempt}")

Token = Annotated[int, Query(ge=0, le=2**63 - 1)]


@router.post("/artifact")
async def announce(attempt: str, body: ArtifactCall, core: Core) -> Received:
    """A file that the run is to keep; how much of it is there already, of an earlier try."""
    announced = files.Announced(body.name, body.size, body.sha256, body.media_type)
    files.check(announced, core.settings.file_bytes)
    most = core.settings.run_file_bytes
    row = await core.database.write(files.announce_artifact, attempt, body.token, announced, most)
    if not announced.size:
        row = await receiving.receive(core.database, core.blobs, row, 0, receiving.nothing())
    return Received(id=row.id, received=receiving.received(core.blobs, row), size=row.size)


@router.patch("/files/{file}")
async def send(
    attempt: str,
    file: str,
    token: Token,
    offset: Annotated[int, Query(ge=0, le=2**53)],
    request: Request,
    core: Core,
) -> Received:
    row = await core.database.read(files.mine, attempt, token, file)
    row = await receiving.receive(core.database, core.blobs, row, offset, request.stream())
    return Received(id=row.id, received=receiving.received(core.blobs, row), size=row.size)


@router.get("/files/{file}")
async def get(attempt: str, file: str, token: Token, core: Core) -> FileResponse:
    """The file, or a range of it; its digest is the ETag."""
    return contents(core, await core.database.read(files.for_attempt, attempt, token, file))
