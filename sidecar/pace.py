"""How fast one container may ask: above its pace it is answered later, not refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Pace:
    """`rate` turns a second in the long run, and `burst` at once at first and after a quiet time."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1.0 / rate
        self._ahead = burst / rate
        self._clock = clock
        #: When the turns taken so far would all have been due, one after the other.
        self._due = clock() - self._ahead

    def take(self, turns: int = 1) -> float:
        """Takes a turn, or several: the seconds to wait for them."""
        now = self._clock()
        self._due = max(self._due, now - self._ahead) + turns * self._interval
        return max(0.0, self._due - now)

    async def turn(self) -> None:
        pause = self.take()
        if pause:
            await asyncio.sleep(pause)
