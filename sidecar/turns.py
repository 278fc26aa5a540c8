"""Who is next where containers share something: each in its turn, however much one of them asks for."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable


class Turns:
    """`slots` at once over all owners; one owner has at most `share()` of them; free ones go round the owners."""

    def __init__(self, slots: int, share: Callable[[], int]) -> None:
        self._free = slots
        self._share = share
        self._held: dict[str, int] = {}
        #: Who waits, by owner; the owner whose turn is next comes first.
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @contextlib.asynccontextmanager
    async def turn(self, owner: str) -> AsyncIterator[None]:
        """Holds a slot."""
        await self.take(owner)
        try:
            yield
        finally:
            self.give(owner)

    async def take(self, owner: str) -> None:
        """A slot that somebody else may `give` back."""
        if self._free and owner not in self._waiting and self._held.get(owner, 0) < self._share():
            self._hold(owner)
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.give(owner)
            else:
                self._leave(owner, place)
            raise

    def _hold(self, owner: str) -> None:
        self._free -= 1
        self._held[owner] = self._held.get(owner, 0) + 1

    def give(self, owner: str) -> None:
        self._free += 1
        left = self._held.pop(owner) - 1
        if left:
            self._held[owner] = left
        self._pass_on()

    def _leave(self, owner: str, place: asyncio.Future[None]) -> None:
        places = self._waiting.get(owner)
        if places is None or place not in places:
            return  # passed over already
        places.remove(place)
        if not places:
            del self._waiting[owner]

    def _pass_on(self) -> None:
        share = self._share()
        for owner in list(self._waiting):
            if not self._free:
                return
            if self._held.get(owner, 0) >= share:
                continue
            # to the end of the round
            places = self._waiting.pop(owner)
            while places:
                place = places.popleft()
                if not place.done():  # else it was given up
                    self._hold(owner)
                    place.set_result(None)
                    break
            if places:
                self._waiting[owner] = places
