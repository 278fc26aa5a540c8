"""Counts of values in buckets that grow by a factor, from which percentiles are read, and which can be added up.

120 buckets, each a fifth wider than the one before it: a percentile is off by a factor of 1.19^0.5 at the most
(9 %), however the values lie, and what two hours have counted is counted of both by adding. The first bucket holds
what is below the base, the last what is beyond all others (11 days from a base of a millisecond).

A histogram is one number, in which each bucket has 40 bits for how often it was met: two are added as numbers are.
A page of tasks adds up thousands of them.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_left
from itertools import accumulate

BUCKETS = 120
FACTOR = 1.19
#: The upper bound of the first bucket: of milliseconds, and of bytes.
MILLISECOND = 1.0
KIBIBYTES = 64 * 1024.0

_LOG = math.log(FACTOR)
#: Bytes of a bucket.
_LANE = 5

#: A histogram; 0 is that of nothing.
Counts = int


def bucket(value: float, base: float) -> int:
    """Which bucket holds `value`."""
    if not value >= base:  # what is no number either
        return 0
    return min(BUCKETS - 1, 1 + int(math.log(value / base) / _LOG)) if value < math.inf else BUCKETS - 1


def middle(number: int, base: float) -> float:
    """The value that stands for all of a bucket: as far from its lower bound as from its upper, as factors."""
    return base / 2 if number == 0 else base * FACTOR ** (number - 0.5)


def one(value: float, base: float) -> Counts:
    """The histogram of one value."""
    return 1 << (8 * _LANE * bucket(value, base))


def met(counts: Counts) -> tuple[int, list[int]]:
    """The first bucket that was, and how often it and those after it were, up to the last."""
    first = max(0, (counts & -counts).bit_length() - 1) // (8 * _LANE)
    counts >>= 8 * _LANE * first
    width = -(-counts.bit_length() // (8 * _LANE))
    lanes = struct.unpack("<" + width * "IB", counts.to_bytes(width * _LANE, "little"))
    low, high = lanes[::2], lanes[1::2]
    return first, [a + (b << 32) for a, b in zip(low, high, strict=True)] if any(high) else list(low)


def total(counts: Counts) -> int:
    return sum(met(counts)[1])


def percentiles(counts: Counts, base: float, *shares: float) -> list[float | None]:
    """For each of `shares` the value that so many of all are not above, to 9 %; None of nothing."""
    if not counts:
        return [None for _ in shares]
    first, found = met(counts)
    up_to = list(accumulate(found))
    ranks = (max(1, math.ceil(share * up_to[-1])) for share in shares)
    return [middle(first + bisect_left(up_to, rank), base) for rank in ranks]


def percentile(counts: Counts, share: float, base: float) -> float | None:
    return percentiles(counts, base, share)[0]


def pack(counts: Counts) -> bytes:
    """The number of the first bucket that was met, and the lanes from that one to the last."""
    if not counts:
        return b""
    first = ((counts & -counts).bit_length() - 1) // (8 * _LANE)
    counts >>= 8 * _LANE * first
    return bytes([first]) + counts.to_bytes(-(-counts.bit_length() // 8), "little")


def unpack(packed: bytes) -> Counts:
    return int.from_bytes(packed[1:], "little") << (8 * _LANE * packed[0]) if packed else 0
