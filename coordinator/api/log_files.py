"""A run's lines as a file: all of them or those that are looked for, read page by page while they are sent."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection, Row

from coordinator.api.docs import refusals
from coordinator.api.log_filters import Filtered
from coordinator.api.polling import still_allowed
from coordinator.api.routers import public
from coordinator.context import Coordinator, Core
from coordinator.foundation.visible import visible
from coordinator.runs import log_search, merged_logs, runs, views
from coordinator.runs.log_search import Wanted
from coordinator.runs.logs import Cursor, write_cursor
from coordinator.storage.database import Database

router = public("runs")

Format = Literal["text", "ndjson"]
#: Lines that are in memory at once.
_PAGE = 1000
_MEDIA = {"text": "text/plain; charset=utf-8", "ndjson": "application/x-ndjson"}
_BREAKS = {ord(character): f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"}
_SUFFIX = {"text": "log", "ndjson": "ndjson"}


@router.get(
    "/runs/{run}/logs/download",
    summary="A run's log lines as a file",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/plain": {}, "application/x-ndjson": {}}}, **refusals(404, 422)},
)
async def download(
    run: str,
    request: Request,
    core: Core,
    wanted: Filtered,
    format: Annotated[Format, Query(description="`text` for people, `ndjson` for programs")] = "text",
    children: Annotated[bool, Query(description="With the lines of the runs below it, as in `/logs`")] = False,
) -> StreamingResponse:
    """All lines, or those that are asked for, as they are when they are read: a line of text for each, its control
    characters written out (`\\x1b`); or an object as in `/logs`, every character as it was written.
    """
    await core.database.read(runs.get, run)  # a 404 has to come before the file begins
    return answer(request, core, run, wanted, format, children)


def answer(
    request: Request, core: Coordinator, run: str, wanted: Wanted, format: Format, children: bool = False
) -> StreamingResponse:
    """The file, of a run that is known to be there."""

    async def allowed() -> AsyncIterator[bytes]:
        made = (merged_parts if children else parts)(core.database, run, wanted, format)
        async for part in made:
            # a key that is revoked meanwhile ends it: broken off, so that it is not taken for whole
            await still_allowed(request, core)
            yield part

    headers = {
        "Content-Disposition": f'attachment; filename="{file_name(run, wanted, format)}"',
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    return StreamingResponse(allowed(), media_type=_MEDIA[format], headers=headers)


async def parts(database: Database, run: str, wanted: Wanted, format: Format) -> AsyncIterator[bytes]:
    """What the file is made of, each part from a transaction of its own."""
    write = _text if format == "text" else _json
    place: Cursor | None = None
    while True:
        found = await database.read(log_search.search, run, wanted, place, _PAGE)
        if found.lines:
            yield "".join(map(write, found.lines)).encode("utf-8", "backslashreplace")
        if found.next is None:
            return
        place = found.next


async def merged_parts(database: Database, run: str, wanted: Wanted, format: Format) -> AsyncIterator[bytes]:
    """As `parts`, with the lines of the runs below it."""
    write = _text_of_run if format == "text" else _json_of_run
    places: merged_logs.Places | None = None

    def read(conn: Connection, now: float) -> merged_logs.Merged:
        of = [row.id for row in merged_logs.family(conn, now, run).runs]
        return merged_logs.read(conn, now, of, wanted, places, _PAGE)

    while True:
        found = await database.read(read)
        if found.lines:
            yield "".join(map(write, found.lines)).encode("utf-8", "backslashreplace")
        if found.next is None:
            return
        places = found.next


def file_name(run: str, wanted: Wanted, format: Format) -> str:
    """Of letters, digits and `_-.` alone: as `run_01h….log`."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", run)[:80]
    return f"{plain}{'' if wanted.all else '-filtered'}.{_SUFFIX[format]}"


def _text(line: Row[Any]) -> str:
    """As `2026-01-31T12:00:00.000Z L1.118 stderr WARNING app.db: message`; what goes on, goes on indented."""
    logger = f"{line.logger}: " if line.logger else ""
    head = f"{views.iso(line.at)} L{write_cursor((line.attempt, line.seq))} {line.stream} {line.level.upper()} "
    # a line of its own begins with its time: none can be made up in a message
    return visible(head + logger).replace("\n", "\\n") + visible(line.message).replace("\n", "\n    ") + "\n"


def _text_of_run(line: Row[Any]) -> str:
    return f"{line.run_id} {_text(line)}"


def _json_of_run(line: Row[Any]) -> str:
    return views.line_of_run(line).model_dump_json().translate(_BREAKS) + "\n"


def _json(line: Row[Any]) -> str:
    # what some programs take for the end of a line is only one where it is meant: the same JSON
    return views.log_line(line).model_dump_json().translate(_BREAKS) + "\n"
