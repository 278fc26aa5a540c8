"""Files: uploaded for payloads, kept by runs; announced, sent in parts, read as a whole or in ranges."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Header, Query, Request, Response
from fastapi.responses import FileResponse
from sqlalchemy import Row

from coordinator.api import acts
from coordinator.api.docs import refusals
from coordinator.api.routers import public
from coordinator.api.scopes import Who
from coordinator.context import Coordinator, Core
from coordinator.files import files, receiving
from coordinator.foundation.errors import Gone, NotFound
from coordinator.runs import views
from coordinator.wire import FilePage, FileRequest, StoredFile

router = public("files")

_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_PART: dict[str, Any] = {
    "requestBody": {"required": True, "description": "The next bytes of the file", "content": _BINARY}
}
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file", "content": _BINARY},
    206: {"description": "The range of it that was asked for", "content": _BINARY},
}


@router.post(
    "/files",
    status_code=201,
    response_model=StoredFile,
    summary="Announce a file that is to be uploaded",
    responses=refusals(413, 422, 429),
)
async def announce(
    body: FileRequest,
    core: Core,
    who: Who,
    project: Annotated[str | None, Query(description="Whose it is; default: any project may use it")] = None,
) -> StoredFile:
    """Send its parts to `PATCH /files/{id}` then. It is kept for `retention_files`, and as long as a run has it."""
    if who.project is not None and project not in (None, who.project):
        raise NotFound(f"there is no project {project!r} for this key, which sees {who.project}")
    announced = files.Announced(body.name, body.size, body.sha256, body.media_type)
    files.check(announced, core.settings.file_bytes)
    row = await core.database.write(files.announce, who.project or project, announced)
    if not announced.size:
        row = await receiving.receive(core.database, core.blobs, row, 0, receiving.nothing())
    acts.about(project=row.project, name=row.name)
    return _view(core, row)


@router.patch(
    "/files/{file}",
    response_model=StoredFile,
    summary="Send the next part of a file",
    responses=refusals(404, 409, 413, 422),
    openapi_extra=_PART,
)
async def send(
    file: str,
    request: Request,
    core: Core,
    offset: Annotated[int, Header(alias="Upload-Offset", ge=0, le=2**53)],
) -> StoredFile:
    """Where the part begins is said by `Upload-Offset`, and has to be how much is there (409 `wrong_offset`; `GET
    /files/{id}` tells). A part has at most 8 MiB. What came of one that broke off is kept.
    """
    row = await core.database.read(files.get, file)
    if row.run_id is not None:
        raise NotFound(f"there is no file {file!r} that is being uploaded")
    row = await receiving.receive(core.database, core.blobs, row, offset, request.stream())
    return _view(core, row)


@router.get("/files/{file}", response_model=StoredFile, summary="A file", responses=refusals(404))
async def get(file: str, core: Core) -> StoredFile:
    return _view(core, await core.database.read(files.get, file))


@router.get(
    "/files/{file}/content",
    response_class=Response,
    summary="What is in a file",
    responses={**_CONTENT, **refusals(404, 409)},
)
async def content(file: str, core: Core) -> FileResponse:
    return contents(core, await core.database.read(files.get, file))


@router.get(
    "/runs/{run}/files", response_model=FilePage, summary="The files that a run keeps", responses=refusals(404)
)
async def listing(
    run: str,
    core: Core,
    cursor: Annotated[str | None, Query(max_length=255)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> FilePage:
    rows, following = await core.database.read(files.of_run, run, cursor, limit)
    return FilePage(items=[_view(core, row) for row in rows], next=following)


@router.get(
    "/runs/{run}/files/{name:path}",
    response_class=Response,
    summary="A file of a run, by its name",
    responses={**_CONTENT, **refusals(404)},
)
async def named(run: str, name: str, core: Core) -> FileResponse:
    return contents(core, await core.database.read(files.named, run, name))


def contents(core: Coordinator, row: Row[Any]) -> FileResponse:
    """The answer with a file, or with the range of it that is asked for. Raises Conflict, Gone."""
    path = core.blobs.path(files.there(row).content_blob)
    if not path.is_file():
        raise Gone(f"the file {row.id} is not in the blob store any more: restore it there", code="file_gone")
    last = row.name.rpartition("/")[2]
    return FileResponse(
        path,
        # never shown as a page of this address: what is in it is some task's
        media_type="application/octet-stream",
        headers={
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(last, safe='')}",
            "X-Content-Type-Options": "nosniff",
            "ETag": f'"{row.content_blob}"',
        },
    )


def _view(core: Coordinator, row: Row[Any]) -> StoredFile:
    keep = core.settings.retention_files
    return StoredFile(
        id=row.id,
        name=row.name,
        size=row.size,
        received=receiving.received(core.blobs, row),
        sha256=row.sha256,
        media_type=row.media_type,
        project=row.project,
        run=row.run_id,
        created_at=views.iso(row.created_at),
        expires_at=views.iso(row.created_at + keep) if keep and row.run_id is None else None,
    )
