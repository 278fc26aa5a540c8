"""What is counted of the ends of one task in some time, in a row of `history` and out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from coordinator.history import buckets
from coordinator.history.buckets import Counts
from coordinator.storage.values import decode, encode_small

#: What is measured, with the column of a fact that has it and the base of its buckets.
MEASURES = {
    "queued": ("queued_ms", buckets.MILLISECOND),
    "start": ("start_ms", buckets.MILLISECOND),
    "run": ("run_ms", buckets.MILLISECOND),
    "total": ("total_ms", buckets.MILLISECOND),
    "memory": ("peak_memory", buckets.KIBIBYTES),
}
#: What is only summed up, with the column.
SUMS = {"logs": "log_bytes"}
#: What is counted by its word, with the column.
WORDS = {"statuses": "status", "outcomes": "outcome", "reasons": "reason", "starts": "start", "causes": "cause"}


@dataclass
class Figures:
    """`counts`: of each of WORDS how often each word was met. `sums`: of each of MEASURES and SUMS. `attempts` of
    a run are each counted by themselves: `queued`, `start`, `run`, `memory` and `logs` are those of attempts,
    `total` that of runs.
    """

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    measured: dict[str, Counts] = field(default_factory=dict)

    def fold(self, fact: Row[Any]) -> None:
        for name, column in WORDS.items():
            word = getattr(fact, column)
            if word is not None:
                counted = self.counts.setdefault(name, {})
                counted[word] = counted.get(word, 0) + 1
        for name, (column, base) in MEASURES.items():
            value = getattr(fact, column)
            if value is not None:
                self.measured[name] = self.measured.get(name, 0) + buckets.one(value, base)
                self.sums[name] = self.sums.get(name, 0.0) + value
        for name, column in SUMS.items():
            if value := getattr(fact, column):
                self.sums[name] = self.sums.get(name, 0.0) + value

    def add(self, more: Figures) -> None:
        for name, words in more.counts.items():
            counted = self.counts.setdefault(name, {})
            for word, met in words.items():
                counted[word] = counted.get(word, 0) + met
        for name, value in more.sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        for name, counts in more.measured.items():
            self.measured[name] = self.measured.get(name, 0) + counts

    def of(self, name: str) -> Mapping[str, int]:
        return self.counts.get(name, {})

    @property
    def runs(self) -> int:
        """How many ended."""
        return sum(self.of("statuses").values())

    @property
    def attempts(self) -> int:
        return sum(self.of("outcomes").values())

    def measurements(self, name: str) -> int:
        return buckets.total(self.measured.get(name, 0))

    def percentile(self, name: str, share: float) -> float | None:
        return self.percentiles(name, share)[0]

    def percentiles(self, name: str, *shares: float) -> list[float | None]:
        return buckets.percentiles(self.measured.get(name, 0), MEASURES[name][1], *shares)

    def columns(self) -> dict[str, Any]:
        return {
            "counts": encode_small(self.counts),
            "sums": encode_small(self.sums),
            **{name: buckets.pack(self.measured.get(name, 0)) for name in MEASURES},
        }


def of_row(row: Row[Any]) -> Figures:
    measured = {name: buckets.unpack(packed) for name in MEASURES if (packed := getattr(row, name))}
    return Figures(decode(row.counts), decode(row.sums), measured)
