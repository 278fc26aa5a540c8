"""Histograms: a percentile is within a tenth, two of them are added up, and they are small."""

from __future__ import annotations

import math
import random

import pytest

from coordinator.history import buckets
from coordinator.history.buckets import Counts


def exact(values: list[float], share: float) -> float:
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


def counted(values: list[float], base: float = 1.0) -> Counts:
    return sum(buckets.one(value, base) for value in values)


@pytest.mark.parametrize("spread", [0.01, 1.0, 5.0])
@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("count", [1, 7, 1000])
def test_a_percentile_is_within_a_tenth(spread: float, share: float, count: int) -> None:
    rng = random.Random(1)
    values = [max(1.0, rng.lognormvariate(7, spread)) for _ in range(count)]
    found = buckets.percentile(counted(values), share, 1.0)
    assert found == pytest.approx(exact(values, share), rel=0.1)


def test_every_value_has_a_bucket_and_that_bucket_is_near_it() -> None:
    value = 1.0
    while value < 9e8:
        number = buckets.bucket(value, 1.0)
        assert 0 < number < buckets.BUCKETS
        assert buckets.middle(number, 1.0) == pytest.approx(value, rel=0.0915)
        value *= 1.013


@pytest.mark.parametrize(
    ("value", "number"), [(0, 0), (0.99, 0), (-5, 0), (math.nan, 0), (1, 1), (1e30, 119), (math.inf, 119)]
)
def test_what_is_beyond_is_in_the_first_or_the_last(value: float, number: int) -> None:
    assert buckets.bucket(value, 1.0) == number


def test_of_two_added_up_it_is_that_of_both() -> None:
    one, two = [1.5 * n + 1 for n in range(100)], [9.0 * n + 1 for n in range(300)]
    both = counted(one) + counted(two)
    assert both == counted([*one, *two])
    assert buckets.total(both) == 400


def test_of_nothing_there_is_none() -> None:
    assert buckets.percentile(0, 0.5, 1.0) is None


def test_they_are_packed_into_a_few_bytes() -> None:
    rng = random.Random(2)
    counts = counted([rng.lognormvariate(7, 1) for _ in range(10_000)])
    packed = buckets.pack(counts)
    assert buckets.unpack(packed) == counts
    assert len(packed) < 300
    assert buckets.unpack(buckets.pack(0)) == 0


def test_no_bucket_spills_into_the_next() -> None:
    """However often it is met: 10^12 times in each."""
    every = sum(10**12 << 40 * number for number in range(buckets.BUCKETS))
    assert buckets.met(every) == (0, [10**12] * buckets.BUCKETS)
    assert buckets.unpack(buckets.pack(every)) == every
    last = buckets.one(1e30, 1.0)
    assert buckets.met(buckets.unpack(buckets.pack(last))) == (buckets.BUCKETS - 1, [1])
    assert buckets.total(0) == 0
    assert len(buckets.pack(last)) == 2
