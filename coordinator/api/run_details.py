"""What a run did: its checkpoints, attempts and logs, and the stream that follows it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

from fastapi import Header, Query, Request
from fastapi.responses import Response, StreamingResponse
from sqlalchemy import Connection, Row

from coordinator.api.docs import refusals
from coordinator.api.log_filters import Filtered
from coordinator.api.polling import parse_position, recheck, still_allowed
from coordinator.api.routers import public
from coordinator.attempts import checkpoints
from coordinator.context import Coordinator, Core
from coordinator.foundation.errors import Forbidden, Unauthenticated, invalid_field
from coordinator.runs import history, log_search, logs, merged_logs, runs, trace, views
from coordinator.runs.log_search import Wanted
from coordinator.signals import waking
from coordinator.wire import FINAL, AttemptPage, CheckpointPage, LoggedRun, LogPage, Trace

router = public("runs")

_KEEP_ALIVE = 15.0
_BATCH = 500


@router.get(
    "/runs/{run}/checkpoints",
    response_model=CheckpointPage,
    summary="A run's checkpoints and waits, in their order",
    responses=refusals(404, 422),
)
async def list_checkpoints(
    run: str,
    core: Core,
    after: Annotated[str | None, Query(description="The `next` of an earlier page")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
) -> CheckpointPage:
    """A page ends after `limit` checkpoints, and sooner where their values are large."""
    position = parse_position(after)

    def read(conn: Connection, now: float) -> tuple[list[Row[Any]], int | None]:
        runs.get(conn, now, run)
        return checkpoints.listing(conn, now, run, position, limit)

    rows, following = await core.database.read(read)
    return CheckpointPage(
        items=[await views.checkpoint(row, core.values) for row in rows],
        next=None if following is None else str(following),
    )


@router.get("/runs/{run}/attempts", response_model=AttemptPage, summary="A run's attempts", responses=refusals(404))
async def list_attempts(run: str, core: Core) -> AttemptPage:
    rows = await core.database.read(runs.list_attempts, run)
    return AttemptPage(items=[views.attempt(row) for row in rows])


@router.get(
    "/runs/{run}/trace",
    response_model=Trace,
    summary="Where a run's time went, as spans and as a ledger",
    responses=refusals(404),
)
async def show_trace(run: str, core: Core) -> Response:
    """What does not belong to a span is left out of it."""

    # made where it is read: some thousand spans would hold up everybody else on the loop
    def read(conn: Connection, now: float) -> str:
        return trace.build(history.read(conn, now, run), now).model_dump_json(exclude_none=True)

    return Response(await core.database.read(read), media_type="application/json")


@router.get("/runs/{run}/logs", response_model=LogPage, summary="A run's log lines", responses=refusals(404, 422))
async def list_logs(
    run: str,
    core: Core,
    wanted: Filtered,
    after: Annotated[str | None, Query(description="The `next` of an earlier page")] = None,
    before: Annotated[
        str | None, Query(description="Backwards: the lines before this `next`, or `end` for the last ones")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=5000)] = 500,
    children: Annotated[bool, Query(description="With the lines of the runs below it, together by time")] = False,
) -> LogPage:
    """Oldest first. To follow a run that is not over, use `/runs/{run}/stream`.

    `children`: of 32 runs at most, three levels down; each line names its run. A cursor of such a page is none of
    the other kind.

    A page that is `cut_short` has looked at as many lines as one request may, and found fewer than `limit`: `next`
    goes on from there.
    """
    if after and before:
        raise invalid_field("before", "give it or after, and not both")
    place = after or (before if before != "end" else None)
    if children:
        return await _merged(core, run, wanted, place, limit, backwards=before is not None)
    cursor = logs.parse_cursor(place) if place else None

    def read(conn: Connection, now: float) -> log_search.Found:
        found = log_search.search(conn, now, run, wanted, cursor, limit, backwards=before is not None)
        if not found.lines:
            runs.get(conn, now, run)  # is it there at all
        return found

    found = await core.database.read(read)
    if before is not None and found.lines:  # to go on from there forwards
        found = found._replace(last=(found.lines[-1].attempt, found.lines[-1].seq))
    return LogPage(
        items=[views.log_line(row) for row in found.lines],
        next=None if found.next is None else logs.write_cursor(found.next),
        last=None if found.last is None else logs.write_cursor(found.last),
        looked_at=found.looked_at,
        cut_short=found.cut_short,
    )


async def _merged(
    core: Coordinator, run: str, wanted: Wanted, place: str | None, limit: int, *, backwards: bool
) -> LogPage:
    places = merged_logs.parse_places(place) if place else None

    def read(conn: Connection, now: float) -> tuple[merged_logs.Family, merged_logs.Merged]:
        runs.get(conn, now, run)
        family = merged_logs.family(conn, now, run)
        of = [row.id for row in family.runs]
        return family, merged_logs.read(conn, now, of, wanted, places, limit, backwards=backwards)

    family, found = await core.database.read(read)
    return LogPage(
        items=[views.line_of_run(row) for row in found.lines],
        next=None if found.next is None else merged_logs.write_places(found.next),
        last=merged_logs.write_places(found.last),
        looked_at=found.looked_at,
        cut_short=found.cut_short,
        runs=[LoggedRun(run=row.id, task=row.task, parent=row.parent, status=row.status) for row in family.runs],
        left_out=family.left_out,
    )


@router.get(
    "/runs/{run}/stream",
    summary="Follow a run (server-sent events)",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, **refusals(404, 422)},
)
async def stream(
    run: str,
    request: Request,
    core: Core,
    wanted: Filtered,
    after: Annotated[str | None, Query(description="A log cursor to go on after")] = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """Events `log` (a log line), `progress` (the run's progress and metadata) and `status` (the run without its
    payload and result). The first `status` is the state now; the one with a final status is the last event.
    Each event's id is a log cursor: a client that reconnects with `Last-Event-ID` gets every line once. With
    filters only lines that fit come; each is looked at by itself, also one that replaces another.
    """
    cursor = logs.parse_cursor(last_event_id or after)
    await core.database.read(runs.get, run)  # a 404 has to come before the stream begins
    return StreamingResponse(
        _events(request, core, run, cursor, wanted), media_type="text/event-stream", headers=_LIVE
    )


#: A proxy that gathers what comes, or packs it, would hold it back: nginx goes by the first, others by the second.
_LIVE = {"X-Accel-Buffering": "no", "Cache-Control": "no-store, no-transform"}


async def _events(
    request: Request, core: Coordinator, run: str, cursor: logs.Cursor, wanted: Wanted
) -> AsyncIterator[str]:
    fits = log_search.matcher(wanted)

    def look(conn: Connection, now: float) -> tuple[Row[Any], list[Row[Any]]]:
        # in one transaction: a final status is read together with every line stored before it
        return runs.get(conn, now, run), logs.read(conn, now, run, cursor, _BATCH)

    status: tuple[str, int] | None = None
    progress: dict[str, Any] | None = None
    quiet_since = time.monotonic()
    with core.waking.listen(waking.run(run), waking.step(run), waking.KEYS) as changed:
        while not core.waking.closed:
            changed.clear()
            try:
                await still_allowed(request, core)
            except (Unauthenticated, Forbidden):
                return  # the key was revoked: the stream ends
            row, lines = await core.database.read(look)
            shown = views.run_summary(row)
            if status is None and row.status not in FINAL:
                status = (row.status, row.attempts)
                yield _status(shown.model_dump_json(exclude={"payload", "result"}), cursor)
            for line in lines:
                cursor = (line.attempt, line.seq)
                if fits(line):
                    yield _event("log", views.log_line(line).model_dump_json(), cursor)
            if len(lines) == _BATCH:
                continue
            reported: dict[str, Any] = {"progress": shown.progress, "metadata": shown.metadata}
            if reported != progress and (row.progress is not None or row.metadata is not None):
                progress = reported
                yield _event("progress", json.dumps(reported), cursor)
            if (row.status, row.attempts) != status:
                status = (row.status, row.attempts)
                yield _status(shown.model_dump_json(exclude={"payload", "result"}), cursor)
            if row.status in FINAL:
                return
            quiet = min(_KEEP_ALIVE, recheck(core))
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), quiet)
            if not changed.is_set() and time.monotonic() - quiet_since >= _KEEP_ALIVE:
                quiet_since = time.monotonic()
                yield ": still here\n\n"


def _status(data: str, cursor: logs.Cursor) -> str:
    return _event("status", data, cursor)


def _event(name: str, data: str, cursor: logs.Cursor) -> str:
    # JSON has no line breaks outside of strings, and in them they are escaped: one data line is enough
    return f"id: {cursor[0]}.{cursor[1]}\nevent: {name}\ndata: {data}\n\n"
