"""The log of a run: read by pages, followed live, searched and downloaded."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, NamedTuple

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from coordinator.api.inside import Refusal
from coordinator.api.polling import still_allowed
from coordinator.dashboard import rendering
from coordinator.dashboard.live import STREAM_HEADERS
from coordinator.dashboard.looks import Looks
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


class _Tail(NamedTuple):
    """What a log has after a place: how far it goes, whether there is more, and how a stream says it."""

    last: str | None
    more: bool
    over: bool | None
    event: str


async def _tail(page: Page, path: str, query: dict[str, str], after: str | None) -> _Tail:
    """`over`: whether the runs whose lines are asked for have come to their ends; None where that is not told."""
    found = await page.api.get(f"{path}/logs", **query, after=after, limit=_BATCH)
    last, event = found["last"] or after, ""
    if found["items"]:
        narrowed = any(query.get(name) for name in _FILTERS)
        told = {"html": lines_html(found, path if narrowed else ""), "last": last}
        event = f"id: {last}\nevent: lines\ndata: {json.dumps(told)}\n\n"
    over = all(one["status"] in FINAL for one in found["runs"]) if found["runs"] else None
    return _Tail(last, bool(found["next"]), over, event)


async def _events(request: Request, page: Page, after: str | None) -> AsyncIterator[str]:
    core, path = page.core, f"/runs/{segment(page.path['run'])}"
    query = {**_filters(page), **_children(page)}
    run, looks = page.path["run"], _looks(request)
    who = (page.caller.id, path, *sorted(query.items()))
    with (
        core.waking.listen(waking.run(run), waking.step(run), waking.KEYS) as changed,
        core.waking.listen(waking.run(run)) as moved,
    ):
        moved.set()
        while not core.waking.closed:
            changed.clear()
            over, since = False, changed.at
            try:
                await still_allowed(request, core)
                if moved.is_set():
                    moved.clear()
                    over = (await page.api.get(path))["status"] in FINAL
                    since = time.monotonic() if over else since  # of one that is over, all that there is
                # those who have followed so far ask for the same, and are answered at once
                look = looks.look((*who, after), partial(_tail, page, path, query, after), since)
                await asyncio.wait([look.made])
                tail = look.made.result()
            except (Unauthenticated, Forbidden):
                return
            except (Refusal, CoordinatorError):
                moved.set()
                await asyncio.sleep(EVERY)
                continue
            after = tail.last
            if tail.event:
                yield tail.event
            if not tail.more:
                if over if tail.over is None else tail.over:
                    yield "event: over\ndata: {}\n\n"
                    return
                try:
                    # of what its children write it is not told
                    await asyncio.wait_for(changed.wait(), EVERY / 2 if "children" in query else EVERY * 2)
                except TimeoutError:
                    moved.set()
            # until a time that all who follow wait for: so they go on together
            await asyncio.sleep(_PAUSE - time.monotonic() % _PAUSE)


def _looks(request: Request) -> Looks[_Tail]:
    state = request.app.state
    if not hasattr(state, "tails"):
        state.tails = Looks()
    looks: Looks[_Tail] = state.tails
    return looks


ROUTES = [Route("/runs/{run}/logs/live", live, methods=["GET"])]
