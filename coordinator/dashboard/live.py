"""Pages that keep themselves up to date: one stream for a page, of those of its parts that have changed.

Many who look at the same page have it made once, and all pages together are made no more often than a share of a
processor allows (coordinator/dashboard/looks.py). A page that is hidden has closed its stream (static/app.js) and
costs nothing.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Match, Route

from coordinator.api.inside import Refusal
from coordinator.api.polling import still_allowed
from coordinator.dashboard import rendering
from coordinator.dashboard.looks import Budget, Looks, Seen, seen
from coordinator.dashboard.pages import EVERY, Handler, Page, View, handlers, routes, to_login
from coordinator.foundation.errors import CoordinatorError, Forbidden, Unauthenticated
from coordinator.signals.waking import KEYS

#: Seconds between two looks at a page at the least; and at the most, where nothing wakes it and nothing changes.
_LEAST, _MOST = 0.3, 10.0
#: After so many seconds without a change a comment is sent, so that a proxy keeps the stream.
_KEEP_ALIVE = 15.0

STREAM_HEADERS = {
    **rendering.HEADERS,
    # a proxy that gathers what comes, or packs it, would hold it back
    "X-Accel-Buffering": "no",
    "Cache-Control": "no-store, no-transform",
}


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
    core, looks, key = page.core, _looks(request), (page.caller.id, page.address)
    shown: dict[str, str] = {}
    spoke = time.monotonic()
    topics, every = View("", {}).topics, EVERY
    while not core.waking.closed:
        with core.waking.listen(*topics, KEYS) as changed:
            earliest = changed.at
            while not core.waking.closed:
                changed.clear()
                try:
                    await still_allowed(request, core)
                    look = looks.look(key, lambda: seen(page, handler), max(changed.at, earliest))
                    while not look.made.done():
                        await asyncio.wait([look.made], timeout=EVERY)
                        # who stands in line for long is asked meanwhile whether it still may
                        await still_allowed(request, core)
                    found = look.made.result()
                except (Unauthenticated, Forbidden):
                    yield "event: over\ndata: {}\n\n"  # the session has ended: the page says so
                    return
                except (Refusal, CoordinatorError) as error:
                    # a look that failed is said, and never taken for a page with nothing on it
                    yield f"event: problem\ndata: {json.dumps({'message': error.message})}\n\n"
                    await asyncio.sleep(EVERY)
                    earliest = time.monotonic()
                    continue
                # what other coordinators change may wake nobody here
                every = min(_MOST, 2 * every) if core.waking.hears_others or not core.database.shared else EVERY
                changes = {name: part for name, part in found.parts.items() if shown.get(name) != part.timeless}
                if changes:
                    shown |= {name: part.timeless for name, part in changes.items()}
                    spoke, every = time.monotonic(), EVERY
                    yield "".join(part.event for part in changes.values())
                if found.topics != topics:
                    topics = found.topics
                    break
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), every)
                if time.monotonic() - spoke >= _KEEP_ALIVE:
                    spoke = time.monotonic()
                    yield ": still here\n\n"
                await asyncio.sleep(max(0.0, look.began + _LEAST - time.monotonic()))
                # a look for others that was made a moment ago does, where nothing was heard since
                earliest = time.monotonic() - every / 2


def _looks(request: Request) -> Looks[Seen]:
    state = request.app.state
    if not hasattr(state, "looks"):
        budget = Budget()
        state.looks = Looks(lambda: budget.turn(state.coordinator.waking))
    looks: Looks[Seen] = state.looks
    return looks


ROUTES = [Route("/live", stream, methods=["GET"])]
