"""The log of a run: read by pages, followed live, searched and downloaded."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from coordinator.api.inside import Refusal
from coordinator.api.polling import still_allowed
from coordinator.dashboard import rendering
from coordinator.dashboard.live import STREAM_HEADERS
from coordinator.dashboard.pages import EVERY, Page, View, page, to_login
from coordinator.dashboard.rendering import address, segment
from coordinator.foundation.errors import CoordinatorError, Forbidden, Unauthenticated
from coordinator.signals import waking
from coordinator.wire import FINAL

#: Lines of one page, and of one message of a stream; how often a second a stream speaks at the most.
_PAGE, _BATCH, _PAUSE = 500, 500, 0.25
_FILTERS = ("level", "text", "attempt", "stream", "logger")
#: Lines before and after one that was found, when it is looked at among its neighbours.
_AROUND = 10
_PLACE = re.compile(r"([1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,17})")
LEVELS = ("debug", "info", "warning", "error", "critical")


def _filters(page: Page) -> dict[str, str]:
    return {name: page.query(name) for name in _FILTERS}


def lines_html(found: dict[str, Any], path: str = "") -> str:
    """`path`: of the run, where each line leads to itself among its neighbours. Lines of several runs say whose
    they are.
    """
    template = rendering.environment().get_template("log_lines.html")
    tasks = {one["run"]: one["task"] for one in found.get("runs") or []}
    return template.render({"items": found["items"], "path": path, "tasks": tasks})


def _children(page: Page) -> dict[str, str]:
    """Of an address, whether the lines of the runs below it are shown too."""
    return {"children": "yes"} if page.query("children") else {}


@page("/runs/{run}/logs")
async def show(page: Page) -> View:
    path = f"/runs/{segment(page.path['run'])}"
    given = _filters(page)
    run = await page.api.get(path)
    over = run["status"] in FINAL
    if place := _PLACE.fullmatch(page.query("around")):
        return await _around(page, run, int(place[1]), int(place[2]))
    children = _children(page)
    shown = {**given, **children}
    # what goes on is read from its end
    before = page.query("before") or ("end" if not over and not page.query("after") else "")
    end = {"before": before} if before else {"after": page.query("after")}
    found = await page.api.get(f"{path}/logs", **shown, **end, limit=_PAGE)
    following = earlier = None
    if found["next"] and before:
        earlier = address(f"{path}/logs", **shown, before=found["next"])
    elif found["next"]:
        following = address(f"{path}/logs", **shown, after=found["next"])
    follow = None
    if before == "end":
        follow = address(f"{path}/logs/live", **shown) + ("" if any(shown.values()) else "?")
    first = f"{run['id']}.0.-1" if children else "0.0"
    return View(
        "logs.html",
        {
            "run": run,
            "path": path,
            "given": given,
            "narrowed": any(given.values()),
            "children": children,
            "left_out": found["left_out"],
            "lines": Markup(lines_html(found, path if any(given.values()) else "")),
            "empty": not found["items"],
            "next": following,
            "first": address(f"{path}/logs", **shown, after=first) if before or page.query("after") else None,
            "earlier": earlier,
            "cut_short": found["cut_short"],
            "looked_at": found["looked_at"],
            "last": found["last"] or "",
            "follow": follow,
            "levels": LEVELS,
        },
        topics=(),
    )


async def _around(page: Page, run: dict[str, Any], attempt: int, seq: int) -> View:
    """One line, whatever the filters, with those that stand before and after it."""
    path = f"/runs/{segment(page.path['run'])}"
    before, rest = await asyncio.gather(
        page.api.get(f"{path}/logs", before=f"{attempt}.{seq}", limit=_AROUND),
        page.api.get(f"{path}/logs", after=f"{attempt}.{max(0, seq - 1)}", limit=_AROUND + 1),
    )
    items = before["items"] + rest["items"]
    return View(
        "logs.html",
        {
            "run": run,
            "path": path,
            "given": _filters(page),
            "narrowed": True,
            "children": {},
            "left_out": False,
            "lines": Markup(lines_html({"items": items})),
            "empty": not items,
            "next": address(f"{path}/logs", after=rest["next"]) if rest["next"] else None,
            "first": None,
            "earlier": address(f"{path}/logs", before=before["next"]) if before["next"] else None,
            "cut_short": False,
            "looked_at": len(items),
            "last": "",
            "follow": None,
            "levels": LEVELS,
        },
        topics=(),
    )


async def live(request: Request) -> Response:
    if "caller" not in request.scope.get("state", {}):
        return to_login(request)
    page = Page(request)
    try:
        await page.api.get(f"/runs/{segment(page.path['run'])}")
    except Refusal as refusal:
        return Response(refusal.message + "\n", refusal.status, rendering.HEADERS, "text/plain")
    after = request.headers.get("last-event-id") or page.query("after")
    return StreamingResponse(
        _events(request, page, after or None), media_type="text/event-stream", headers=STREAM_HEADERS
    )


async def _events(request: Request, page: Page, after: str | None) -> AsyncIterator[str]:
    core, path, given = page.core, f"/runs/{segment(page.path['run'])}", _filters(page)
    children = _children(page)
    name = page.path["run"]
    with core.waking.listen(waking.run(name), waking.step(name), waking.KEYS) as changed:
        while not core.waking.closed:
            changed.clear()
            try:
                await still_allowed(request, core)
                run = await page.api.get(path)
                found = await page.api.get(f"{path}/logs", **given, **children, after=after, limit=_BATCH)
            except (Unauthenticated, Forbidden):
                return
            except (Refusal, CoordinatorError):
                await asyncio.sleep(EVERY)
                continue
            if found["items"]:
                after = found["last"] or after
                told = {"html": lines_html(found, path if any(given.values()) else ""), "last": after}
                yield f"id: {after}\nevent: lines\ndata: {json.dumps(told)}\n\n"
            if found["next"]:
                await asyncio.sleep(_PAUSE)
                continue
            if all(one["status"] in FINAL for one in found["runs"] or [run]):
                yield "event: over\ndata: {}\n\n"
                return
            with suppress(TimeoutError):
                # of what its children write it is not told
                await asyncio.wait_for(changed.wait(), EVERY / 2 if children else EVERY * 2)
            await asyncio.sleep(_PAUSE)


ROUTES = [Route("/runs/{run}/logs/live", live, methods=["GET"])]
