"""The time of a run as a picture: a row for each attempt, checkpoint, wait and child, on one scale."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

from markupsafe import Markup

from coordinator.dashboard.formats import milliseconds
from coordinator.dashboard.rendering import segment
from coordinator.dashboard.text import brief, visible

#: In the picture's own units: its width, where the bars begin, and how high a row is.
_WIDTH, _LEFT, _ROW = 960.0, 250.0, 20.0
#: Rows of one kind that follow each other, beyond which they are one, and rows in all.
_ALIKE, _MOST = 50, 150
#: Milliseconds without an edge that are cut short; the share of the width that one gap is given, and all of them.
_GAP, _CUT, _CUTS = 3_600_000.0, 0.06, 0.4

#: Spans that stand within the row of their attempt, with their colours.
_WITHIN = {
    "placed": "placed",
    "started": "started",
    "imported": "imported",
    "handed_over": "handed",
    "ran": "ran",
    "reported": "reported",
}
_KINDS = {
    "run": "free",
    "delayed": "wait",
    "queued": "queued",
    "back_off": "placed",
    "wait": "wait",
    "child": "good",
}
_MANY = {"checkpoint": "checkpoints", "wait": "waits", "child": "runs that it has triggered"}
_INDENT = {"checkpoint": 2, "wait": 1, "child": 1}

Scale = Callable[[float], float]


class Row(NamedTuple):
    """`spans`: what is drawn in it, one after the other."""

    name: str
    words: str
    spans: list[dict[str, Any]]
    indent: int
    href: str | None


def rows(spans: list[dict[str, Any]], enlarged: Callable[[str], str] | None = None) -> list[Row]:
    """The rows of a trace, in the order of its spans; many of one kind in a row are folded into one."""
    found: list[Row] = []
    parts: dict[str, list[dict[str, Any]]] = {}
    for span in spans:
        if span["kind"] in _WITHIN:
            parts.setdefault(span["parent"], []).append(span)
    alike: list[dict[str, Any]] = []
    counted: dict[str, int] = {}
    for span in spans:
        counted[span["kind"]] = counted.get(span["kind"], 0) + 1
    for span in spans:
        kind = span["kind"]
        if kind in _WITHIN:
            continue
        if kind in _MANY and counted[kind] > _ALIKE:
            alike.append(span)
            continue
        row = _row(span, parts.get(span["id"], []))
        if row.href is None and enlarged is not None and kind != "run" and span["end_ms"] > span["begin_ms"]:
            row = row._replace(href=enlarged(span["id"]))
        found.append(row)
    for kind in _MANY:
        same = [span for span in alike if span["kind"] == kind]
        if same:
            found.append(Row(f"{len(same)} {_MANY[kind]}", "", same, 1, None))
    return found[:_MOST]


def _row(span: dict[str, Any], parts: list[dict[str, Any]]) -> Row:
    kind = span["kind"]
    took = milliseconds(_took(span))
    words = f"{took}{'' if span.get('ended_at') else ' so far'}"
    if span.get("status"):
        words += f", {str(span['status']).replace('_', ' ')}"
    if span.get("size_bytes") is not None:
        words += f", {span['size_bytes']} bytes"
    href = None
    name = brief(span["name"], 34)
    if kind == "attempt":
        name = f"attempt {span['attempt']}"
    elif kind == "child" and (child := span.get("of_child")):
        href = f"/runs/{segment(child['id'])}"
    return Row(name, words, parts or [span], _INDENT.get(kind, 0 if kind == "run" else 1), href)


def _took(span: dict[str, Any]) -> float:
    """Also of one of which only a part is drawn."""
    return float(span.get("took_ms", span["end_ms"] - span["begin_ms"]))


def scale(spans: list[dict[str, Any]], equal: bool) -> Scale:
    """Where a moment (milliseconds from the run's making) stands. `equal`: moments at which something begins or
    ends stand at equal distances, so that a wait of days leaves room for what was done in seconds.
    """
    edges = _edges(spans)
    cut = {begin for begin, _ in gaps(spans)}
    pairs = list(pairwise(edges))
    kept = sum(end - begin for begin, end in pairs if begin not in cut)
    share = min(_CUT, _CUTS / len(cut)) if cut else 0.0
    at = [0.0]
    for begin, end in pairs:
        if equal:
            width = 1 / len(pairs)
        elif begin in cut:
            width = share
        else:
            width = (1 - share * len(cut)) * (end - begin) / kept
        at.append(at[-1] + width)
    # where nothing is left beside the gaps they have all of the room
    room = (_WIDTH - _LEFT - 8) / (at[-1] or 1.0)

    def place(moment: float) -> float:
        after = bisect_right(edges, moment)
        if after >= len(edges):
            return _LEFT + room * at[-1]
        before = max(0, after - 1)
        width = edges[after] - edges[before]
        part = (moment - edges[before]) / width if width > 0 else 0.0
        return _LEFT + room * (at[before] + min(max(part, 0.0), 1.0) * (at[after] - at[before]))

    return place


def gaps(spans: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """The times in which no user code runs and nothing else begins or ends, where they are long and not all.

    The scale cuts them short: a wait of days leaves room for what is done before and after it.
    """
    pairs = list(pairwise(_edges(spans)))
    ran = [span for span in spans if span["kind"] == "ran"]
    long = [
        (begin, end)
        for begin, end in pairs
        if end - begin > _GAP and not any(one["begin_ms"] <= begin and one["end_ms"] >= end for one in ran)
    ]
    return long if len(long) < len(pairs) else []


def _edges(spans: list[dict[str, Any]]) -> list[float]:
    return sorted({0.0, *(float(span[edge]) for span in spans for edge in ("begin_ms", "end_ms"))})


def within(spans: list[dict[str, Any]], span: dict[str, Any]) -> list[dict[str, Any]]:
    """What of spans is in the time of one of them, which begins at 0, with how long all of each took."""
    first, last = span["begin_ms"], span["end_ms"]
    found = []
    for one in spans:
        begin, end = max(one["begin_ms"], first), min(one["end_ms"], last)
        if begin < end or (begin == end and one["begin_ms"] == one["end_ms"]):
            took = one["end_ms"] - one["begin_ms"]
            found.append({**one, "begin_ms": begin - first, "end_ms": end - first, "took_ms": took})
    return found


def draw(
    spans: list[dict[str, Any]], *, equal: bool = False, enlarged: Callable[[str], str] | None = None
) -> Markup:
    """The whole picture. `enlarged`: the address of a picture of one span's time."""
    listed = rows(spans, enlarged)
    place = scale(spans, equal)
    height = _ROW * len(listed) + 4
    drawn = [_drawn(row, number, place) for number, row in enumerate(listed)]
    drawn += [_gap(begin, end, place, height) for begin, end in ([] if equal else gaps(spans))]
    lines = [
        Markup('<path class="f-line" d="M{x:.1f} 0V{h:.0f}"/>').format(
            x=_LEFT + (_WIDTH - _LEFT - 8) * n / 4, h=height
        )
        for n in range(5)
    ]
    return Markup(
        '<div class="wide" tabindex="0" role="region" aria-label="Waterfall"><svg class="fall" '
        'viewBox="0 0 {w:.0f} {h:.0f}" role="group" aria-label="What happened when">{lines}{rows}</svg></div>'
    ).format(w=_WIDTH, h=height, lines=Markup("").join(lines), rows=Markup("").join(drawn))


def _gap(begin: float, end: float, place: Scale, height: float) -> Markup:
    """Two lines across all rows, where the scale leaves out what is between them."""
    words = f"{milliseconds(end - begin)} in which nothing begins or ends, cut short"
    left, right = place(begin), place(end)
    middle = (left + right) / 2
    path = f"M{middle - 2:.1f} 0V{height:.0f}M{middle + 2:.1f} 0V{height:.0f}"
    return Markup('<g><title>{}</title><path class="f-limit" d="{}"/></g>').format(words, path)


def _drawn(row: Row, number: int, place: Scale) -> Markup:
    top = number * _ROW
    name = Markup('<text x="{:.0f}" y="{:.1f}">{}</text>').format(
        4 + 14 * row.indent, top + 14, visible(brief(row.name, 38 - 2 * row.indent))
    )
    if row.href is not None:
        name = Markup('<a href="{}">{}</a>').format(row.href, name)
    bars = []
    for span in row.spans:
        left = place(span["begin_ms"])
        width = max(1.5, place(span["end_ms"]) - left)
        took = milliseconds(_took(span))
        status = span.get("status")
        kind = _WITHIN.get(span["kind"]) or (
            "bad" if status in ("failed", "lost") else _KINDS.get(span["kind"], "ran")
        )
        title = visible(f"{brief(span['name'], 200)}: {took}")
        bars.append(
            Markup(
                '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="12" rx="2" class="f-{}"><title>{}</title>'
                "</rect>"
            ).format(left, top + 4, width, kind, title)
        )
    # beside the bars where there is room, else before them
    ends = max(place(span["end_ms"]) for span in row.spans)
    begins = min(place(span["begin_ms"]) for span in row.spans)
    words = visible(row.words)
    if ends < _WIDTH - 170:
        said = Markup('<text class="dim" x="{:.1f}" y="{:.1f}">{}</text>').format(ends + 5, top + 14, words)
    elif begins > _LEFT + 170:
        said = Markup('<text class="dim" x="{:.1f}" y="{:.1f}" text-anchor="end">{}</text>').format(
            begins - 5, top + 14, words
        )
    else:
        said = Markup("")
    return Markup("<g>{}{}{}</g>").format(name, Markup("").join(bars), said)


#: What held a run in line, in a few words.
HELD = {
    "image": "image gone",
    "paused": "queue paused",
    "queue_limit": "queue full",
    "key_limit": "key at its limit",
    "rate": "rate of its queue",
    "global_limit": "limit over all queues",
    "no_runner": "no runner",
    "memory": "no room",
    "share": "share used up",
    "turn": "its turn",
}

#: The parts of the ledger in their order: field, name and colour.
LEDGER = (
    ("delayed_ms", "delayed", "wait"),
    ("queued_ms", "queued", "queued"),
    ("placed_ms", "placed", "placed"),
    ("started_ms", "container", "started"),
    ("imported_ms", "import", "imported"),
    ("handed_over_ms", "handed over", "handed"),
    ("ran_ms", "user code", "ran"),
    ("waiting_ms", "waiting", "wait"),
    ("back_off_ms", "back-off", "placed"),
    ("reported_ms", "reported", "reported"),
    ("other_ms", "other", "free"),
)
