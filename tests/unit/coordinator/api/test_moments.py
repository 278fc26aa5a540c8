"""Times as requests write them."""

from __future__ import annotations

import time

import pytest

from coordinator.api import moments
from coordinator.foundation.errors import Invalid


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-01T00:00:00Z", 1767225600),
        ("2026-01-01T00:00:00+02:00", 1767225600 - 7200),
        ("2026-01-01T00:00:00 02:00", 1767225600 - 7200),  # as it comes where "+" was not quoted
        ("2026-01-01", 1767225600),
        ("2026-01-01 12:00", 1767225600 + 43200),
    ],
)
def test_a_time_is_the_same_from_both_ends(text: str, seconds: float) -> None:
    assert moments.since(text) == moments.until(text) == seconds


def test_a_duration_is_ago_or_from_now() -> None:
    now = time.time()
    assert moments.since("1h") == pytest.approx(now - 3600, abs=60)
    assert moments.until("1h") == pytest.approx(now + 3600, abs=60)


@pytest.mark.parametrize("text", ["yesterday", "", "0001-01-01T00:00:00+14:00x", "2026-13-01", "1e999d", "\x00"])
def test_what_is_neither_is_named_with_its_field(text: str) -> None:
    with pytest.raises(Invalid, match=r"since: .* is neither a time in ISO 8601"):
        moments.since(text)
    with pytest.raises(Invalid, match=r"until: .* is neither a time in ISO 8601"):
        moments.until(text)
