"""Values as people read them: times, durations, bytes, shares."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

from coordinator.dashboard.schemas import Place
from coordinator.dashboard.text import visible

_STEPS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
#: Of a value that is drawn as a tree: nodes, characters of one text, and how deep it stands open.
_MOST_NODES, _MOST_TEXT, _OPEN = 500, 2000, 3


def parse(moment: str) -> datetime:
    return datetime.fromisoformat(moment.replace("Z", "+00:00"))


def ago(moment: str | None, now: datetime | None = None) -> Markup:
    """`moment` (ISO 8601) as how long ago it is, or how long until then; the exact time is its title."""
    if not moment:
        return Markup("–")
    now = now or datetime.now(UTC)
    seconds = (now - parse(moment)).total_seconds()
    words = f"in {span(-seconds)}" if seconds < -1 else "now" if seconds < 1 else f"{span(seconds)} ago"
    exact = moment.replace("T", " ").replace("Z", " UTC")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(moment, exact, words)


def span(seconds: float) -> str:
    """Seconds in the two largest units that they have."""
    if seconds < 1:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    parts = []
    for step, unit in _STEPS:
        count, whole = divmod(whole, int(step))
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def milliseconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1f} ms" if value < 10 else span(value / 1000)


def between(start: str | None, end: str | None) -> str | Markup:
    """How long it took, or has taken by now."""
    if not start:
        return "–"
    if end:
        return span(max(0.0, (parse(end) - parse(start)).total_seconds()))
    so_far = span(max(0.0, (datetime.now(UTC) - parse(start)).total_seconds()))
    return Markup('<time datetime="{}" data-running>{}</time>').format(start, so_far)


def size(count: float | None) -> str:
    """Bytes, in the unit that leaves one to three digits before the point."""
    if count is None:
        return "–"
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if value >= 100 or value == int(value) else f"{value:.1f} {unit}"


def share(part: float | None, whole: float | None) -> str:
    return "–" if not whole or part is None else f"{100 * part / whole:.0f} %"


def tree(value: Any, schema: dict[str, Any] | None = None) -> Markup:
    """A JSON value, folded where it is deep; what is large is cut, and said to be. `schema`: what its fields are
    labelled by.
    """
    left = [_MOST_NODES]
    drawn = _node(value, left, 0, Place(schema or {}))
    if left[0] <= 0:
        drawn += Markup('<p class="note">more than {} values: the whole is in the download</p>').format(_MOST_NODES)
    return drawn


def _node(value: Any, left: list[int], depth: int, place: Place) -> Markup:
    left[0] -= 1
    if left[0] < 0:
        return Markup("…")
    if isinstance(value, (dict, list)) and value:
        pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
        items = []
        for name, inner in pairs:
            if left[0] <= 0:
                items.append(Markup("<li>…</li>"))
                break
            within = place.of(name, inner)
            drawn = _node(inner, left, depth + 1, within)
            items.append(Markup("<li>{} {}</li>").format(_name(str(name), within), drawn))
        listed = Markup('<ul class="tree">{}</ul>').format(Markup("").join(items))
        kind = f"{len(pairs)} fields" if isinstance(value, dict) else f"{len(pairs)} items"
        if depth < 1:
            return listed
        opened = Markup(" open") if depth < _OPEN and len(pairs) <= 20 else Markup("")
        return Markup("<details{}><summary>{}</summary>{}</details>").format(opened, kind, listed)
    return _leaf(value)


def _name(name: str, place: Place) -> Markup:
    words = Markup(' title="{}"').format(visible(place.words)) if place.words else ""
    label = Markup(' <span class="dim">{}</span>').format(visible(place.label)) if place.label else ""
    return Markup("<b{}>{}</b>{}").format(words, visible(name), label)


def _leaf(value: Any) -> Markup:
    if isinstance(value, str):
        cut = len(value) > _MOST_TEXT
        text = visible(value[:_MOST_TEXT]) + (f"… ({len(value):,} characters)" if cut else "")
        return Markup('<span class="v-text">{}</span>').format(text)
    return Markup('<span class="v-{}">{}</span>').format(
        "null" if value is None else "word", escape(visible(json.dumps(value, ensure_ascii=False)))
    )
