"""Which of two versions is the later one: `YYYYMMDD.N` by its day and number, not by its letters."""

from __future__ import annotations


def order(version: str) -> tuple[int, int, str]:
    """Sorts as versions were made; what is no version of ours comes first."""
    day, _, number = version.partition(".")
    if day.isdecimal() and number.isdecimal() and len(version) <= 40:
        return int(day), int(number), version
    return 0, 0, version
