"""Pictures, drawn on the server: attributes and classes of SVG, which the policy of the pages lets through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import NamedTuple

from markupsafe import Markup

from coordinator.dashboard.text import visible

_WIDTH = 600.0


class Part(NamedTuple):
    """Of a bar: how much it is, in any unit; `kind` is its colour (`.f-…` of the stylesheet)."""

    name: str
    value: float
    kind: str
    words: str


def bar(parts: Sequence[Part], label: str) -> Markup:
    """Parts of a whole, side by side, with a legend that says what they are."""
    whole = sum(part.value for part in parts)
    if whole <= 0:
        return Markup("")
    drawn, at = [], 0.0
    for part in parts:
        width = _WIDTH * part.value / whole
        title = visible(f"{part.name}: {part.words}")
        drawn.append(
            Markup(
                '<rect x="{:.2f}" y="0" width="{:.2f}" height="14" class="f-{}"><title>{}</title></rect>'
            ).format(at, max(width, 0.5), part.kind, title)
        )
        at += width
    legend = Markup("").join(
        Markup(
            '<li><svg viewBox="0 0 10 10" aria-hidden="true"><rect width="10" height="10" class="f-{}"/></svg>'
            "{} {}</li>"
        ).format(part.kind, part.name, part.words)
        for part in parts
    )
    return Markup(
        '<svg class="bar" viewBox="0 0 {:.0f} 14" preserveAspectRatio="none" height="14" role="img" '
        'aria-label="{}">{}</svg><ul class="legend">{}</ul>'
    ).format(_WIDTH, visible(label), Markup("").join(drawn), legend)


def columns(
    rows: Sequence[tuple[str, Sequence[Part]]],
    label: str,
    height: float = 90.0,
    marks: Mapping[str, str] | None = None,
) -> Markup:
    """Stacked columns, one for each of `rows`, whose names are their titles. `marks`: words for some of the names,
    before whose column a line stands.
    """
    most = max((sum(part.value for part in parts) for _, parts in rows), default=0.0)
    if not rows or most <= 0:
        return Markup("")
    step = _WIDTH / len(rows)
    drawn = []
    for number, (name, parts) in enumerate(rows):
        top = height
        words = ", ".join(f"{part.name} {part.words}" for part in parts) or "nothing"
        shapes = []
        for part in parts:
            tall = (height - 4) * part.value / most
            top -= tall
            shapes.append(
                Markup('<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" class="f-{}"/>').format(
                    number * step + 1, top, max(step - 2, 0.5), tall, part.kind
                )
            )
        drawn.append(
            Markup("<g><title>{}</title>{}</g>").format(visible(f"{name}: {words}"), Markup("").join(shapes))
        )
    for number, (name, _) in enumerate(rows):
        if marks and name in marks:
            line = Markup('<g><title>{}</title><path class="f-mark" d="M{:.2f} 0V{:.1f}"/></g>')
            drawn.append(line.format(visible(marks[name]), number * step, height))
    ground = Markup('<path class="f-line" d="M0 {:.1f}H{:.0f}"/>').format(height, _WIDTH)
    return _picture(height, label, ground + Markup("").join(drawn))


def spark(counts: Sequence[int], label: str, height: float = 24.0) -> Markup:
    """Small columns without names, as one shape: a list has many of them."""
    most = max(counts, default=0)
    if not most:
        return Markup("")
    step = _WIDTH / len(counts)
    path = "".join(
        f"M{n * step + 1:.0f} {height:.0f}v-{(height - 2) * count / most:.1f}h{step - 2:.0f}V{height:.0f}z"
        for n, count in enumerate(counts)
        if count
    )
    return _picture(height, label, Markup('<path class="f-bad" d="{}"/>').format(path))


def curve(points: Sequence[float], limit: float | None, label: str, height: float = 80.0) -> Markup:
    """A line over time, from zero; `limit` is a line across it."""
    if len(points) < 2:
        return Markup("")
    most = max([*points, limit or 0.0]) or 1.0
    step = _WIDTH / (len(points) - 1)

    def y(value: float) -> float:
        return height - 2 - (height - 6) * value / most

    path = " ".join(f"{number * step:.1f},{y(value):.1f}" for number, value in enumerate(points))
    across = Markup("")
    if limit is not None:
        across = Markup('<path class="f-limit" d="M0 {:.1f}H{:.0f}"/>').format(y(limit), _WIDTH)
    area = Markup('<polygon class="f-curve" points="0,{h:.1f} {path} {w:.0f},{h:.1f}"/>')
    return _picture(height, label, area.format(w=_WIDTH, h=height, path=path) + across)


class Point(NamedTuple):
    """Of a curve against something: where, how much, and both in words."""

    x: float
    y: float
    words: str


def against(points: Sequence[Point], mark: float | None, label: str, height: float = 110.0) -> Markup:
    """A curve from zero over a logarithmic scale, each of its points with its words; `mark` is a line up and down.

    `points`: by `x`, which is above 0.
    """
    if len(points) < 2 or points[0].x >= points[-1].x:
        return Markup("")
    most = max(point.y for point in points) or 1.0
    first, last = log(points[0].x), log(points[-1].x)

    def x(value: float) -> float:
        return 6 + (_WIDTH - 12) * (log(value) - first) / (last - first)

    def y(value: float) -> float:
        return height - 4 - (height - 12) * value / most

    path = " ".join(f"{x(point.x):.1f},{y(point.y):.1f}" for point in points)
    drawn = Markup('<polyline class="f-against" points="{}"/>').format(path)
    if mark is not None and points[0].x <= mark <= points[-1].x:
        drawn = Markup('<path class="f-limit" d="M{:.1f} 0V{:.0f}"/>').format(x(mark), height) + drawn
    ground = Markup('<path class="f-line" d="M0 {:.1f}H{:.0f}"/>').format(height - 1, _WIDTH)
    dots = Markup("").join(
        Markup('<circle class="f-point" cx="{:.1f}" cy="{:.1f}" r="4"><title>{}</title></circle>').format(
            x(point.x), y(point.y), visible(point.words)
        )
        for point in points
    )
    return _picture(height, label, ground + drawn + dots)


def _picture(height: float, label: str, drawn: Markup) -> Markup:
    return Markup('<svg class="bar" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, height, visible(label), drawn
    )
