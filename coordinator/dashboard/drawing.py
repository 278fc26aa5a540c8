"""Pictures, drawn on the server: attributes and classes of SVG, which the policy of the pages lets through."""

from __future__ import annotations

from collections.abc import Sequence
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


def columns(rows: Sequence[tuple[str, Sequence[Part]]], label: str, height: float = 90.0) -> Markup:
    """Stacked columns, one for each of `rows`, whose names are their titles."""
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


def _picture(height: float, label: str, drawn: Markup) -> Markup:
    return Markup('<svg class="bar" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, height, visible(label), drawn
    )
