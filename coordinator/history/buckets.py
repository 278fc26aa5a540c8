"""Counts of values in buckets that grow by a factor, from which percentiles are read, and which can be added up.

120 buckets, each a fifth wider than the one before it: a percentile is off by a factor of 1.19^0.5 at the most
(9 %), however the values lie, and what two hours have counted is counted of both by adding. The first bucket holds
what is below the base, the last what is beyond all others (11 days from a base of a millisecond).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping

BUCKETS = 120
FACTOR = 1.19
#: The upper bound of the first bucket: of milliseconds, and of bytes.
MILLISECOND = 1.0
KIBIBYTES = 64 * 1024.0

_LOG = math.log(FACTOR)
#: What four bytes hold.
_MOST = 2**32 - 1

#: How often each bucket was met; one that is not there never.
Counts = dict[int, int]


def bucket(value: float, base: float) -> int:
    """Which bucket holds `value`."""
    if not value >= base:  # what is no number either
        return 0
    return min(BUCKETS - 1, 1 + int(math.log(value / base) / _LOG)) if value < math.inf else BUCKETS - 1


def middle(number: int, base: float) -> float:
    """The value that stands for all of a bucket: as far from its lower bound as from its upper, as factors."""
    return base / 2 if number == 0 else base * FACTOR ** (number - 0.5)


def count(counts: Counts, value: float, base: float) -> None:
    number = bucket(value, base)
    counts[number] = counts.get(number, 0) + 1


def add(counts: Counts, more: Mapping[int, int]) -> None:
    for number, met in more.items():
        counts[number] = counts.get(number, 0) + met


def percentile(counts: Mapping[int, int], share: float, base: float) -> float | None:
    """The value that `share` of all are not above, to 9 %; None of nothing."""
    rank = max(1, math.ceil(share * sum(counts.values())))
    for number in sorted(counts):
        rank -= counts[number]
        if rank <= 0:
            return middle(number, base)
    return None


def pack(counts: Mapping[int, int]) -> bytes:
    """Five bytes for each bucket that was met: the numbers of all of them, and then how often."""
    numbers = sorted(counts)
    met = [min(counts[number], _MOST) for number in numbers]
    return bytes(numbers) + struct.pack(f"<{len(met)}I", *met)


def unpack(packed: bytes) -> Counts:
    met = len(packed) // 5
    return dict(zip(packed[:met], struct.unpack(f"<{met}I", packed[met:]), strict=True))
