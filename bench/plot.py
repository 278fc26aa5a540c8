"""Curves as an SVG, for the docs: cold starts and delays against memory, one line for each policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

_WIDTH, _HEIGHT, _LEFT, _TOP, _BETWEEN = 340, 240, 60, 40, 90
_COLOURS = ("#7a7a7a", "#b06000", "#c9a227", "#8a3ffc", "#0f62fe", "#d12771", "#198038")
_GIB = 1024**3


def lines(rows: Sequence[dict[str, Any]]) -> str:
    """Two panels, logarithmic both ways. `rows`: with `policy`, `memory` (bytes), `cold_ratio`, `mean_delay_ms`."""
    policies = list(dict.fromkeys(str(row["policy"]) for row in rows))
    height = _TOP + _HEIGHT + 60 + 18 * len(policies)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * (_LEFT + _WIDTH) + _BETWEEN} {height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    panels = (("cold_ratio", "runs that start cold, %", 100.0), ("mean_delay_ms", "mean delay of a start, ms", 1.0))
    for number, (name, title, times) in enumerate(panels):
        left = _LEFT + number * (_WIDTH + _BETWEEN)
        parts += _panel(rows, policies, name, title, times, left)
    for number, policy in enumerate(policies):
        y = _TOP + _HEIGHT + 58 + 18 * number
        parts.append(f'<line x1="{_LEFT}" y1="{y - 4}" x2="{_LEFT + 24}" y2="{y - 4}" {_stroke(number)}/>')
        parts.append(f'<text x="{_LEFT + 32}" y="{y}">{escape(policy)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(
    rows: Sequence[dict[str, Any]], policies: list[str], name: str, title: str, times: float, left: int
) -> list[str]:
    memories = sorted({int(row["memory"]) for row in rows})
    values = [max(1e-3, times * float(row[name])) for row in rows]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    first, last = math.log2(memories[0]), max(math.log2(memories[-1]), math.log2(memories[0]) + 1)

    def x(memory: int) -> float:
        return left + _WIDTH * (math.log2(memory) - first) / (last - first)

    def y(value: float) -> float:
        return _TOP + _HEIGHT * (high - math.log10(max(1e-3, value))) / (high - low)

    parts = [f'<text x="{left}" y="{_TOP - 16}" font-weight="bold">{title}</text>']
    for power in range(low, high + 1):
        at = y(10.0**power)
        parts.append(f'<line x1="{left}" y1="{at:.1f}" x2="{left + _WIDTH}" y2="{at:.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    for memory in memories:
        at = _TOP + _HEIGHT + 18
        parts.append(f'<text x="{x(memory):.1f}" y="{at}" text-anchor="middle">{memory / _GIB:g}</text>')
    parts.append(f'<text x="{left + _WIDTH / 2}" y="{_TOP + _HEIGHT + 36}" text-anchor="middle">memory, GiB</text>')
    for number, policy in enumerate(policies):
        points = " ".join(
            f"{x(int(row['memory'])):.1f},{y(times * float(row[name])):.1f}"
            for row in rows
            if row["policy"] == policy
        )
        parts.append(f'<polyline points="{points}" fill="none" {_stroke(number)}/>')
    return parts


def _stroke(number: int) -> str:
    # told apart without colours as well
    dashes = ("", "6 3", "2 3", "8 3 2 3", "12 4", "4 2", "")[number % 7]
    return f'stroke="{_COLOURS[number % len(_COLOURS)]}" stroke-width="2" stroke-dasharray="{dashes}"'
