"""Bars of spans."""

from __future__ import annotations

import pytest
from samovar.cli.tracing import bar


@pytest.mark.parametrize(
    ("begin", "end", "total", "drawn"),
    [
        (0, 100, 100, "██████████"),
        (0, 0, 100, "█·········"),
        (100, 100, 100, "·········█"),
        (50, 51, 100, "·····█····"),
        (25, 75, 100, "··██████··"),
        (0, 0, 0, "··········"),
    ],
)
def test_something_of_each_span_is_seen_where_it_lies(begin: float, end: float, total: float, drawn: str) -> None:
    assert bar(begin, end, total, width=10) == drawn
