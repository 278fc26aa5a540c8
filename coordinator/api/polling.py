"""Long polls: look, and look again at every wake, until there is something, time is up, or nobody listens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from fastapi import Request

from coordinator.context import Coordinator
from coordinator.foundation.errors import Forbidden, invalid_field
from coordinator.foundation.limits import MAX_POLL
from coordinator.signals.waking import KEYS

T = TypeVar("T")

#: On a shared database a wait looks again by itself this often: while other coordinators are heard, in case one
#: of them died before it could tell; and while they are not.
_HEARD, _UNHEARD = 5.0, 1.0


#: How often a wait asks whether its caller may still wait.
_CALLER = 5.0


async def still_allowed(request: Request, core: Coordinator) -> None:
    """Raises Unauthenticated, Forbidden where the key that began this wait was revoked, or may do less now."""
    state = request.scope.get("state", {})
    if "session" in state:
        if await core.callers.of_session(state["session"]) != state["caller"]:
            raise Forbidden("this session may not do any more what it could when this wait began")
    elif "key" in state and await core.callers.find(state["key"]) != state["caller"]:
        raise Forbidden("this key may not do any more what it could when this wait began")


def recheck(core: Coordinator) -> float:
    """The longest a wait goes without a look of its own."""
    if not core.database.shared:
        return _CALLER
    return _HEARD if core.waking.hears_others else _UNHEARD


async def poll(
    request: Request,
    core: Coordinator,
    topics: list[str],
    timeout: float,
    look: Callable[[], Awaitable[T | None]],
) -> T | None:
    """What `look` found; None when the time is up, the server stops, or the caller has gone.

    `look` is not called for a caller that has gone: a claim for it would be an attempt without a runner.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + max(0.0, min(timeout, MAX_POLL))
    gone = asyncio.ensure_future(_gone(request))
    try:
        with core.waking.listen(*topics, KEYS) as changed:
            while not gone.done():
                changed.clear()
                await still_allowed(request, core)
                found = await look()
                left = deadline - loop.time()
                if found is not None or left <= 0 or core.waking.closed:
                    return found
                await changed.heard(min(left, recheck(core)), gone)
        return None
    finally:
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await gone


def parse_position(after: str | None) -> int:
    """The cursor of a page that goes by numbers. Raises Invalid when it is none of ours."""
    if not after:
        return 0
    if not (after.isascii() and after.isdecimal() and len(after) <= 15):
        raise invalid_field("after", f"{after!r} is no cursor: give the `next` of an earlier page")
    return int(after)


async def _gone(request: Request) -> None:
    """Returns when the caller has hung up; the body must have been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
