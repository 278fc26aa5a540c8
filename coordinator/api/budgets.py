"""What one caller may have in flight: requests, bytes of bodies, long polls; and how often an address may be wrong.

A caller is a key, an attempt, or, where nothing is shown, an address. Used from the event loop's thread only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from coordinator.foundation.errors import RateLimited
from coordinator.foundation.limits import (
    ADDRESS_BURST,
    ADDRESS_BYTES,
    ADDRESS_RATE,
    ADDRESS_REQUESTS,
    ATTEMPT_BYTES,
    ATTEMPT_REQUESTS,
    KEY_BYTES,
    KEY_POLLS,
    KEY_REQUESTS,
    RUNNER_BYTES,
    RUNNER_REQUESTS,
)

_MOST_ADDRESSES = 10_000


@dataclass(frozen=True)
class Limits:
    """Most at once; `polls` are counted apart from the other requests."""

    requests: int
    bytes: int
    polls: int


KEY = Limits(KEY_REQUESTS, KEY_BYTES, KEY_POLLS)
RUNNER = Limits(RUNNER_REQUESTS, RUNNER_BYTES, RUNNER_REQUESTS)
ATTEMPT = Limits(ATTEMPT_REQUESTS, ATTEMPT_BYTES, ATTEMPT_REQUESTS)
ADDRESS = Limits(ADDRESS_REQUESTS, ADDRESS_BYTES, 0)


class _Flying:
    def __init__(self) -> None:
        self.requests = self.bytes = self.polls = 0


class Ticket:
    """One request in flight. Closed at its end, once."""

    def __init__(self, budgets: Budgets, who: str, limits: Limits, poll: bool) -> None:
        self._budgets, self._who, self._limits, self._poll = budgets, who, limits, poll
        self._bytes = 0

    def take(self, count: int) -> None:
        """Counts bytes of the body. Raises RateLimited where the caller has too many in flight."""
        flying = self._budgets.flying[self._who]
        if flying.bytes + count > self._limits.bytes and flying.bytes > self._bytes:
            raise RateLimited(
                f"this caller has {flying.bytes} bytes of bodies in flight, {self._limits.bytes} at most: send the "
                "next one when those are answered",
                1.0,
            )
        self._bytes += count
        flying.bytes += count

    def close(self) -> None:
        flying = self._budgets.flying[self._who]
        flying.bytes -= self._bytes
        if self._poll:
            flying.polls -= 1
        else:
            flying.requests -= 1
        if not (flying.requests or flying.polls):
            del self._budgets.flying[self._who]


class Budgets:
    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.flying: dict[str, _Flying] = {}
        self._clock = clock
        #: By address: how many wrong requests it has left, and when that was counted.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admit(self, who: str, limits: Limits, *, poll: bool = False) -> Ticket:
        """A place for one more request. Raises RateLimited."""
        flying = self.flying.get(who) or _Flying()
        if poll and flying.polls >= limits.polls:
            raise RateLimited(
                f"this caller holds {flying.polls} long polls and streams, {limits.polls} at most: end one first",
                1.0,
            )
        if not poll and flying.requests >= limits.requests:
            raise RateLimited(
                f"this caller has {flying.requests} requests in flight, {limits.requests} at most: send the next "
                "one when those are answered",
                1.0,
            )
        self.flying[who] = flying
        if poll:
            flying.polls += 1
        else:
            flying.requests += 1
        return Ticket(self, who, limits, poll)

    def check_address(self, address: str) -> None:
        """Raises RateLimited where the address has been wrong too often lately."""
        left = self._now_left(address)
        if left < 1:
            raise RateLimited(
                "too many wrong requests from this address: see to the key, signature or id that is sent",
                (1 - left) / ADDRESS_RATE,
            )

    def wrong(self, address: str) -> None:
        """Counts a request without a good key, signature or id."""
        self._left[address] = (self._now_left(address) - 1, self._clock())
        self._left.move_to_end(address)
        while len(self._left) > _MOST_ADDRESSES:
            self._left.popitem(last=False)

    def _now_left(self, address: str) -> float:
        known = self._left.get(address)
        if known is None:
            return float(ADDRESS_BURST)
        left, at = known
        return min(float(ADDRESS_BURST), left + (self._clock() - at) * ADDRESS_RATE)
