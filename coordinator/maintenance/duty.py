"""What a duty is: a name, and a round of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from coordinator.context import Coordinator


class Round(NamedTuple):
    """What a round has left behind: topics to wake, and in how many seconds the next thing is due.

    0: there is more now. None: nothing that is known of.
    """

    topics: Iterable[str] = ()
    next_due: float | None = None


@dataclass(frozen=True)
class Duty:
    """`round(coordinator, up)`, with the seconds that the process has been up, is called again and again by the
    one coordinator that holds the duty: after `every` seconds at the latest, sooner where the round said so, and
    at once when a time to be kept has come nearer (waking.DUE), if `keeps_times`.
    """

    name: str
    round: Callable[[Coordinator, float], Awaitable[Round]]
    every: float
    keeps_times: bool = True
    #: The shortest time between two rounds: a burst of due times is one round.
    pause: float = 0.005
