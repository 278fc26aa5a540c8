"""`Queue`: how many runs execute at once, how often they may start, and what happens when there are too many."""

from __future__ import annotations

import re
from typing import Any

from samovar.errors import OptionError
from samovar.values.units import parse_duration

#: What a trigger does that finds the queue full.
ON_FULL = ("queue", "skip", "cancel_running", "keep_newest")
#: What happens to runs beyond the rate.
RATE_EXCESS = ("wait", "refuse")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_RATE = re.compile(r"\s*(\d+)\s*/\s*(\d+(?:\.\d+)?)?\s*(ms|s|m|h|d)\s*")
_LARGEST = 1_000_000
_MOST_STARTS = 100_000


class Queue:
    """A named limit that runs of one task, or of several tasks of a project, share.

    `concurrency`: how many of its runs execute at once. `per_key`: the same for each concurrency key.
    `rate`: how many runs may start in a time, "100/m" or "10/30s", for each key where there is one;
    `rate_excess`: whether a run beyond it waits ("wait") or its trigger is refused ("refuse").
    `on_full`: what a trigger does that finds as many runs queued and running as may execute at once: "queue"
    (stand in line), "skip" (the new run is canceled), "cancel_running" (the oldest are canceled, running ones
    too), "keep_newest" (the oldest queued ones are canceled). Raises OptionError.
    """

    __slots__ = ("concurrency", "name", "on_full", "per_key", "rate", "rate_excess")

    def __init__(
        self,
        name: str,
        concurrency: int | None = None,
        per_key: int | None = None,
        rate: str | None = None,
        rate_excess: str = "wait",
        on_full: str = "queue",
    ) -> None:
        self.name = check_name(name)
        self.concurrency = _limit("concurrency", concurrency)
        self.per_key = _limit("per_key", per_key)
        #: (how many runs, in how many seconds)
        self.rate = None if rate is None else parse_rate(rate)
        self.rate_excess = _one_of("rate_excess", rate_excess, RATE_EXCESS)
        if rate is None and rate_excess != "wait":
            raise OptionError(f'Queue(rate_excess={rate_excess!r}) is about a rate: give one, such as rate="100/m"')
        self.on_full = _one_of("on_full", on_full, ON_FULL)
        if on_full != "queue" and concurrency is None and per_key is None:
            raise OptionError(
                f"Queue(on_full={on_full!r}): a queue without a limit is never full; give concurrency or per_key"
            )

    def __repr__(self) -> str:
        return f"Queue({', '.join(f'{name}={value!r}' for name, value in self.describe().items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Queue) and self.describe() == other.describe()

    def __hash__(self) -> int:
        return hash(self.name)

    def describe(self) -> dict[str, Any]:
        """The queue as it stands in the index; `rate` as `{"limit", "period"}`, in seconds."""
        return {
            "name": self.name,
            "concurrency": self.concurrency,
            "per_key": self.per_key,
            "rate": None if self.rate is None else {"limit": self.rate[0], "period": self.rate[1]},
            "rate_excess": self.rate_excess,
            "on_full": self.on_full,
        }


def check_name(name: object) -> str:
    """`name`, if a queue can have it. Raises OptionError."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise OptionError(
        f"Queue(name={name!r}): give 1 to 128 letters, digits, '-', '_' or '.', beginning with a letter or digit"
    )


def parse_rate(rate: object) -> tuple[int, float]:
    """(runs, seconds) in a rate such as "100/m", "5/s", "10/30s". Raises OptionError."""
    match = _RATE.fullmatch(rate) if isinstance(rate, str) else None
    if match is None:
        raise OptionError(f'Queue(rate={rate!r}): give runs per time, such as "5/s", "100/m" or "10/30s"')
    count, seconds = int(match[1]), parse_duration(f"{match[2] or 1}{match[3]}")
    if not 1 <= count <= _MOST_STARTS:
        raise OptionError(f"Queue(rate={rate!r}): give from 1 to {_MOST_STARTS} runs; pause a queue to stop it")
    if not 0 < seconds <= 31 * 86400:
        raise OptionError(f"Queue(rate={rate!r}): give a time of at most 31 days")
    return count, seconds


def _limit(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LARGEST:
        return value
    hint = "; to let nothing start, pause the queue (samovar queues pause)" if value == 0 else ""
    raise OptionError(f"Queue({name}={value!r}): give a whole number from 1 to {_LARGEST}, or None{hint}")


def _one_of(name: str, value: object, choices: tuple[str, ...]) -> str:
    if isinstance(value, str) and value in choices:
        return value
    raise OptionError(f"Queue({name}={value!r}): give {' or '.join(repr(choice) for choice in choices)}")
