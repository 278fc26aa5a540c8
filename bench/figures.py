"""What a benchmark gives: series of samples, their ratio to a peer's, and the targets they are held to."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Better = Literal["lower", "higher"]


@dataclass
class Series:
    """Samples of one thing, in `unit`. `against`: of a peer's, which of Samovar's series it is compared with."""

    name: str
    unit: str
    samples: list[float] = field(default_factory=list)
    against: int = 0

    def add(self, sample: float) -> None:
        self.samples.append(sample)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def percentile(self, percent: float) -> float:
        """By linear interpolation between the two samples around it."""
        ordered = sorted(self.samples)
        place = (len(ordered) - 1) * percent / 100
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


@dataclass(frozen=True)
class Target:
    """`value` must not be above `limit`, both in `unit`."""

    name: str
    value: float
    limit: float
    unit: str

    @property
    def met(self) -> bool:
        return self.value <= self.limit


@dataclass
class Outcome:
    """One benchmark's figures. Every ratio is Samovar's median over the peer's."""

    name: str
    what: str
    samovar: list[Series]
    peers: list[Series]
    targets: list[Target] = field(default_factory=list)
    better: Better = "lower"
    notes: list[str] = field(default_factory=list)

    @property
    def met(self) -> bool:
        return all(target.met for target in self.targets)

    def ratio(self, peer: Series) -> float | None:
        """Samovar's median over that of `peer`; None where there is nothing to divide by."""
        return self.samovar[peer.against].median / peer.median if peer.median else None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "name": self.name,
            "what": self.what,
            "better": self.better,
            "samovar": [_document(series) for series in self.samovar],
            "peers": [{**_document(series), "ratio": self.ratio(series)} for series in self.peers],
            "targets": [
                {"name": t.name, "value": t.value, "limit": t.limit, "unit": t.unit, "met": t.met}
                for t in self.targets
            ],
            "notes": self.notes,
        }


def rounds(
    count: int, seconds: float, least: int = 3, clock: Callable[[], float] = time.monotonic
) -> Iterator[int]:
    """0 to `count` - 1, but no more after `seconds`, so that a slow machine costs samples and not hours.

    In each round every peer is measured once: a machine that drifts is unfair to all of them alike.
    """
    end = clock() + seconds
    for number in range(count):
        if number >= least and clock() > end:
            return
        yield number


def _document(series: Series) -> dict[str, Any]:
    return {
        "name": series.name,
        "unit": series.unit,
        "count": len(series.samples),
        "median": series.median,
        "p95": series.percentile(95),
        "p99": series.percentile(99),
    }
