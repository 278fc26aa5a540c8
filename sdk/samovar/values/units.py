"""Durations and amounts of memory as people write them."""

from __future__ import annotations

import re

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)([kmgt]?)(?:i?b)?", re.IGNORECASE)
_BYTES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


def parse_duration(value: object) -> float:
    """Seconds in `value`: a number of seconds, or text such as "500ms", "90s", "15m", "2h", "7d".

    Raises ValueError, naming the value and what would do.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match:
            return float(match[1]) * _SECONDS[match[2]]
    raise ValueError(f'{value!r} is not a duration: give seconds, or text such as "500ms", "90s", "15m", "7d"')


def parse_memory(value: object) -> int:
    """Bytes in `value`: a number of bytes, or text such as "512m", "2g" (powers of 1024).

    Raises ValueError, naming the value and what would do.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str):
        match = _MEMORY.fullmatch(value.strip())
        if match:
            return int(float(match[1]) * _BYTES[match[2].lower()])
    raise ValueError(f'{value!r} is not an amount of memory: give bytes, or text such as "512m", "2g"')


def format_memory(count: int) -> str:
    """`count` bytes for people: "512 MiB"."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"
