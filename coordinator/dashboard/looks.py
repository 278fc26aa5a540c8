"""What live pages look like now: each made once for all who look at it, and all of them in a share of a processor.

A look serves everybody who has heard of no change since it began. Where more is to be looked at than the share
allows, looks stand in line in the order in which they were asked for: pages then say later what has changed, and
whoever runs tasks notices nothing of how many look on.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from typing import Generic, NamedTuple, TypeVar
from weakref import WeakValueDictionary

from starlette.responses import Response

from coordinator.dashboard import rendering
from coordinator.dashboard.pages import Handler, Page, View
from coordinator.signals.waking import KEYS, Waking

T = TypeVar("T")

#: How much of a processor's time looks take for long; and seconds of it that they take at once after a rest.
SHARE, AT_ONCE = 0.03, 0.25
#: Seconds that one look counts for at the most: in a busy process one that waits for long sees what others do.
_COSTLIEST = 0.25

#: What a page says of times: how long ago they are.
_TIMES = re.compile(r">[^<]*</time>")


class Part(NamedTuple):
    """`timeless`: without what the page itself keeps up to date; `event`: as a stream sends it."""

    timeless: str
    event: str


class Seen(NamedTuple):
    parts: dict[str, Part]
    topics: tuple[str, ...]


class Look(Generic[T]):
    """One making of something. `began`: on the clock of `time.monotonic`, infinite while it stands in line."""

    made: asyncio.Future[T]

    def __init__(self) -> None:
        self.began = math.inf


class Budget:
    """Of the work of looks. Used from the event loop's thread only."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, worked: Callable[[], float] = time.process_time
    ) -> None:
        """`worked`: seconds of a processor that this process has had."""
        self._clock = clock
        self._worked = worked
        # one after another: what one takes while others are made would count for each of them
        self._line = asyncio.Lock()
        self._left, self._counted = AT_ONCE, clock()

    def wait(self) -> float:
        """Seconds until the next look may begin."""
        now = self._clock()
        self._left = min(AT_ONCE, self._left + SHARE * (now - self._counted))
        self._counted = now
        return max(0.0, -self._left / SHARE)

    @asynccontextmanager
    async def turn(self, waking: Waking) -> AsyncIterator[None]:
        """Begins when a look may, or when the server stops; the look is made in it."""
        async with self._line:
            with waking.listen(KEYS) as stopping:
                while (wait := self.wait()) > 0 and not waking.closed:
                    stopping.clear()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(stopping.wait(), wait)
            began = self._worked()
            try:
                yield
            finally:
                self._left -= min(self._worked() - began, _COSTLIEST)


class Looks(Generic[T]):
    """The last look at each thing, for as long as somebody holds it."""

    def __init__(self, turn: Callable[[], AbstractAsyncContextManager[None]] = nullcontext) -> None:
        """`turn`: in which a look is made."""
        self._turn = turn
        self._last: WeakValueDictionary[Hashable, Look[T]] = WeakValueDictionary()

    def look(self, key: Hashable, make: Callable[[], Awaitable[T]], since: float) -> Look[T]:
        """A look that begins, or began, after `since`: when whoever asks heard last of a change, or began to
        listen. An older one may be of before it, and nobody would say so again. `key`: who looks, and at what.
        """
        look = self._last.get(key)
        if look is None or look.began < since:
            look = self._last[key] = Look()
            look.made = asyncio.ensure_future(self._make(look, make))
            # those who asked for it may have gone
            look.made.add_done_callback(lambda made: made.cancelled() or made.exception())
        return look

    async def _make(self, look: Look[T], make: Callable[[], Awaitable[T]]) -> T:
        async with self._turn():
            look.began = time.monotonic()
            return await make()


async def seen(page: Page, handler: Handler) -> Seen:
    """The parts of the page that are kept up to date, as they are now. Raises Refusal."""
    view = await handler(page)
    if isinstance(view, Response):
        return Seen({}, View("", {}).topics)
    parts = rendering.blocks(view.template, rendering.live_blocks(view.template), page.values(view))
    return Seen({name: _part(name, html) for name, html in parts.items()}, view.topics)


def _part(name: str, html: str) -> Part:
    told = json.dumps({"id": name, "html": html})
    return Part(_TIMES.sub("", html), f"event: part\ndata: {told}\n\n")
