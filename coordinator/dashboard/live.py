"""Pages that keep themselves up to date: one stream for a page, of those of its parts that have changed.

Many who look at the same page have it made once, and no page is made more often than every so many milliseconds,
however much goes on. A page that is hidden has closed its stream (static/app.js) and costs nothing.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

from cachetools import TTLCache
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Match, Route

from coordinator.api.inside import Refusal
from coordinator.api.polling import still_allowed
from coordinator.dashboard import rendering
from coordinator.dashboard.pages import EVERY, Handler, Page, View, handlers, routes, to_login
from coordinator.foundation.errors import CoordinatorError, Forbidden, Unauthenticated
from coordinator.signals.waking import KEYS

#: Seconds between two looks at a page at the least; and for how long one look serves others.
_LEAST, _SERVES = 0.3, 0.25
#: After so many seconds without a change a comment is sent, so that a proxy keeps the stream.
_KEEP_ALIVE = 15.0
_MOST_PAGES = 256

STREAM_HEADERS = {
    **rendering.HEADERS,
    # a proxy that gathers what comes, or packs it, would hold it back
    "X-Accel-Buffering": "no",
    "Cache-Control": "no-store, no-transform",
}

#: What a page says of times: how long ago they are.
_TIMES = re.compile(r">[^<]*</time>")

Parts = dict[str, str]


class _Look(NamedTuple):
    """`began`: on the clock of `time.monotonic`."""

    began: float
    made: asyncio.Future[tuple[Parts, View]]


class Looks:
    """Parts of pages as they were made a moment ago, by who sees them and their address."""

    def __init__(self) -> None:
        self._looks: TTLCache[tuple[str, str], _Look] = TTLCache(_MOST_PAGES, _SERVES)

    async def look(self, page: Page, handler: Handler, since: float) -> tuple[Parts, View]:
        """A look that began after `since`, which is when whoever asks heard last of a change, or began to listen:
        an older one may be of before it, and nobody would say so again.
        """
        key = (page.caller.id, page.address)
        look = self._looks.get(key)
        if look is None or look.began < since:
            look = self._looks[key] = _Look(time.monotonic(), asyncio.ensure_future(_parts(page, handler)))
        # one who goes away takes the look from nobody
        return await asyncio.shield(look.made)


async def _parts(page: Page, handler: Handler) -> tuple[Parts, View]:
    view = await handler(page)
    if isinstance(view, Response):
        return {}, View("problem.html", {})
    return rendering.blocks(view.template, rendering.live_blocks(view.template), page.values(view)), view


def _of(request: Request) -> tuple[Page, Handler] | None:
    """The page that a stream is of, by its address in `?of=`."""
    wanted = urlsplit(request.query_params.get("of", ""))
    scope = {
        **request.scope,
        "path": wanted.path,
        "raw_path": wanted.path.encode(),
        "query_string": wanted.query.encode(),
        "method": "GET",
    }
    for route in routes:
        found, inner = route.matches(scope)
        if found is Match.FULL and route.path in handlers:
            return Page(Request({**scope, **inner}, request.receive)), handlers[route.path]
    return None


async def stream(request: Request) -> Response:
    if "caller" not in request.scope.get("state", {}):
        return to_login(request)
    found = _of(request)
    if found is None:
        return Response("no page has this address\n", 404, STREAM_HEADERS, "text/plain")
    return StreamingResponse(_events(request, *found), media_type="text/event-stream", headers=STREAM_HEADERS)


async def _events(request: Request, page: Page, handler: Handler) -> AsyncIterator[str]:
    core, looks = page.core, _looks(request)
    shown: Parts = {}
    spoke = time.monotonic()
    topics = View("", {}).topics
    while not core.waking.closed:
        with core.waking.listen(*topics, KEYS) as changed:
            since = time.monotonic()
            while not core.waking.closed:
                began = time.monotonic()
                changed.clear()
                try:
                    await still_allowed(request, core)
                    parts, view = await looks.look(page, handler, since)
                except (Unauthenticated, Forbidden):
                    yield "event: over\ndata: {}\n\n"  # the session has ended: the page says so
                    return
                except (Refusal, CoordinatorError) as error:
                    # a look that failed is said, and never taken for a page with nothing on it
                    yield f"event: problem\ndata: {json.dumps({'message': error.message})}\n\n"
                    await asyncio.sleep(EVERY)
                    continue
                for name, part in parts.items():
                    timeless = _TIMES.sub("", part)  # the page itself keeps its times
                    if shown.get(name) != timeless:
                        shown[name] = timeless
                        spoke = began
                        yield f"event: part\ndata: {json.dumps({'id': name, 'html': part})}\n\n"
                if view.topics != topics:
                    topics = view.topics
                    break
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), EVERY)
                    since = time.monotonic()
                if time.monotonic() - spoke >= _KEEP_ALIVE:
                    spoke = time.monotonic()
                    yield ": still here\n\n"
                await asyncio.sleep(max(0.0, _LEAST - (time.monotonic() - began)))


def _looks(request: Request) -> Looks:
    state = request.app.state
    if not hasattr(state, "looks"):
        state.looks = Looks()
    looks: Looks = state.looks
    return looks


ROUTES = [Route("/live", stream, methods=["GET"])]
