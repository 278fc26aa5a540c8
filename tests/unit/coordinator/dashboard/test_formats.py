"""Values as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from coordinator.dashboard.formats import ago, between, milliseconds, share, size, span, tree

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0004, "0 ms"),
        (0.25, "250 ms"),
        (2.345, "2.3 s"),
        (59.4, "59 s"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (7265, "2 h 1 min"),
        (90061, "1 d 1 h"),
        (86400 * 400, "400 d"),
    ],
)
def test_spans_have_their_two_largest_units(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_times_are_relative_with_the_exact_one_beside() -> None:
    made = ago("2026-01-02T03:03:00.500Z", NOW)
    assert made == (
        '<time datetime="2026-01-02T03:03:00.500Z" title="2026-01-02 03:03:00.500 UTC">1 min 4 s ago</time>'
    )
    assert ">in 1 h<" in ago("2026-01-02T04:04:05Z", NOW)
    assert ">now<" in ago("2026-01-02T03:04:05Z", NOW)
    assert ago(None) == "–"


def test_what_goes_on_counts_up_by_itself() -> None:
    assert between("2026-01-02T03:03:00Z", "2026-01-02T03:03:02.500Z") == "2.5 s"
    assert "data-running" in str(between("2026-01-02T03:03:00Z", None))
    assert between(None, None) == "–"
    assert between("2026-01-02T03:03:02Z", "2026-01-02T03:03:00Z") == "0 ms", "clocks differ"


def test_sizes_and_shares() -> None:
    shown = [size(count) for count in (0, 512, 1024, 1536, 123 * 2**20, 2**40, None)]
    assert shown == ["0 B", "512 B", "1 KiB", "1.5 KiB", "123 MiB", "1 TiB", "–"]
    assert (share(1, 4), share(1, 0), share(None, 4)) == ("25 %", "–", "–")
    assert (milliseconds(0.26), milliseconds(1500), milliseconds(None)) == ("0.3 ms", "1.5 s", "–")


def test_values_are_trees_that_are_folded_and_bounded() -> None:
    made = tree({"<b>": ["\u202e", None, True, 1.5], "deep": {"a": {"b": {"c": {"d": 1}}}}})
    assert "<b>&lt;b&gt;</b>" in made
    assert "‹U+202E›" in made
    assert made.count("<details") == made.count("</details>") == 5
    assert made.count("<details open") < 5, "what is deep is folded"
    large = tree([{"n": number} for number in range(10_000)])
    assert len(large) < 60_000
    assert "more than 500 values" in large
    assert "(3,000,000 characters)" in tree({"long": "x" * 3_000_000})
    assert len(tree({"long": "x" * 3_000_000})) < 3_000
    assert tree("just <text>") == '<span class="v-text">just &lt;text&gt;</span>'
    assert "[]" in tree({"none": []})
