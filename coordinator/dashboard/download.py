"""A list of runs as a file for spreadsheets: what its filter has, a line for each run."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from coordinator.api.inside import Refusal
from coordinator.dashboard import rendering
from coordinator.dashboard.pages import Page, to_login
from coordinator.dashboard.runs import filters

#: Lines of a file, and of those how many are asked for at once.
MOST, _STEP = 20_000, 500
#: A spreadsheet takes a cell that begins so for a formula, and tasks write what is in some of them.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")

COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("id",),
    "project": ("project",),
    "task": ("task",),
    "version": ("version",),
    "status": ("status",),
    "created_at": ("created_at",),
    "started_at": ("started_at",),
    "finished_at": ("finished_at",),
    "attempts": ("attempts",),
    "queued_ms": ("timings", "queued_ms"),
    "start_ms": ("timings", "start_ms"),
    "run_ms": ("timings", "run_ms"),
    "start": ("timings", "start"),
    "peak_memory_bytes": ("usage", "peak_memory_bytes"),
    "memory_limit_bytes": ("usage", "memory_limit_bytes"),
    "error": ("error", "type"),
    "message": ("error", "message"),
    "tags": ("tags",),
}


def cell(run: dict[str, Any], path: tuple[str, ...]) -> str:
    """What the run has there, as text that no spreadsheet runs."""
    value: Any = run
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if value is None:
        return ""
    text = ",".join(value) if isinstance(value, list) else str(value)
    text = text.replace("\0", "\ufffd")
    return f"'{text}" if text.startswith(_FORMULAS) and not isinstance(value, int | float) else text


def lines(runs: list[dict[str, Any]]) -> str:
    """Of each run one line of CSV."""
    out = io.StringIO()
    csv.writer(out).writerows([[cell(run, path) for path in COLUMNS.values()] for run in runs])
    return out.getvalue()


async def download(request: Request) -> Response:
    if "caller" not in request.scope.get("state", {}):
        return to_login(request)
    page = Page(request)
    given: dict[str, Any] = {**filters(page), "dead_letter": page.query("dead_letter")}
    try:
        first = await page.api.get("/runs", **given, limit=_STEP)
    except Refusal as refusal:
        return Response(refusal.message + "\n", refusal.status, rendering.HEADERS, "text/plain")
    headers = {**rendering.HEADERS, "Content-Disposition": 'attachment; filename="runs.csv"'}
    return StreamingResponse(_pages(page, given, first), media_type="text/csv; charset=utf-8", headers=headers)


async def _pages(page: Page, given: dict[str, Any], found: dict[str, Any]) -> AsyncIterator[str]:
    head = io.StringIO()
    csv.writer(head).writerow(COLUMNS)
    yield head.getvalue()
    told = 0
    while True:
        yield lines(found["items"])
        told += len(found["items"])
        if not found["next"]:
            return
        if told >= MOST:
            yield f"# {told} runs; there are more: narrow the list, or ask GET /api/v1/runs by pages\r\n"
            return
        found = await page.api.get("/runs", **given, cursor=found["next"], limit=_STEP)


ROUTES = [Route("/runs/download", download, methods=["GET"])]
