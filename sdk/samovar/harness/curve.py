"""The memory of a run over its time, in few points: however long it takes, they stay as few.

Each point is the most that was seen in its interval. When there are too many, two become one, and the interval is
twice as long: the highest point stays what it is.
"""

from __future__ import annotations

from samovar import wire
from samovar.wire import Message

#: Milliseconds between two looks, and the interval of a point to begin with.
INTERVAL = 250


class Curve:
    """Of one run."""

    def __init__(self) -> None:
        self._interval = INTERVAL
        self._points: list[int] = []
        #: Who held the memory when it was last near its limit: as it is sent.
        self.near: Message | None = None

    def add(self, at: float, memory: int) -> None:
        """`memory`: the bytes held `at` milliseconds after the beginning, and since the look before this one.

        Looks come in their order, and may come late.
        """
        # the look at the end of an interval is its own, though it comes a little later
        slot = max(0, round(at / INTERVAL) - 1)
        while slot * INTERVAL >= self._interval * wire.CURVE_POINTS:
            self._halve()
        place = slot * INTERVAL // self._interval
        units = min(wire.CURVE_MOST, max(0, round(memory / wire.CURVE_UNIT)))
        self._points += [units] * (place + 1 - len(self._points))
        self._points[place] = max(self._points[place], units)

    def told(self) -> Message:
        """As it is sent: `points` in units of wire.CURVE_UNIT bytes; `near` where there is any."""
        told: Message = {"interval_ms": self._interval, "points": list(self._points)}
        return told if self.near is None else {**told, "near": self.near}

    def _halve(self) -> None:
        self._interval *= 2
        self._points = [max(self._points[n : n + 2]) for n in range(0, len(self._points), 2)]
