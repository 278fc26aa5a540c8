"""The geometry of pictures, and that no text of a task is anything but text in them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from coordinator.dashboard.drawing import Part, Point, against, bar, columns, curve, spark
from coordinator.dashboard.tasks import ends
from coordinator.dashboard.waterfall import draw, gaps, rows, scale, within


def rectangles(drawn: str) -> list[tuple[float, float]]:
    """Where each begins and how wide it is."""
    return [(float(x), float(w)) for x, w in re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', drawn)]


def test_the_parts_of_a_bar_fill_it_in_their_order() -> None:
    drawn = bar([Part("<a>", 1, "ran", "1 s"), Part("b", 3, "wait", "3 s")], "label <b>")
    assert rectangles(drawn) == [(0.0, 150.0), (150.0, 450.0)]
    assert "&lt;a&gt;: 1 s" in drawn
    assert "label &lt;b&gt;" in drawn
    assert bar([Part("a", 0, "ran", "")], "x") == ""
    assert bar([], "x") == ""


def test_columns_are_as_high_as_what_they_hold() -> None:
    drawn = columns(
        [("1", [Part("a", 2, "good", "2")]), ("2", [Part("a", 1, "good", "1"), Part("b", 1, "bad", "1")])], "l"
    )
    heights = [float(h) for h in re.findall(r'height="([\d.]+)" class="f-', drawn)]
    assert heights == [86.0, 43.0, 43.0]
    assert columns([], "l") == ""


def test_small_columns_are_one_shape() -> None:
    drawn = spark([0, 2, 0, 4], "l")
    assert drawn.count("<path") == 1
    assert 'd="M151 24v-11.0h148V24zM451 24v-22.0h148V24z"' in drawn
    assert spark([0, 0], "l") == ""
    assert spark([], "l") == ""


def test_a_curve_stays_within_its_picture_and_shows_its_limit() -> None:
    drawn = curve([0, 50, 200], 100, "l")
    ys = [float(y) for _, y in re.findall(r"([\d.]+),([\d.]+)", drawn)]
    assert min(ys) >= 0
    assert max(ys) <= 80
    assert "f-limit" in drawn
    assert curve([1], None, "l") == ""
    assert "f-limit" not in curve([0, 0], None, "l")


def a_span(id: str, kind: str, begin: float, end: float, parent: str | None = "r", **more: Any) -> dict[str, Any]:
    made = {"id": id, "parent": parent, "kind": kind, "name": id, "begin_ms": begin, "end_ms": end}
    return {**made, "ended_at": "x", **more}


SPANS = [
    a_span("r", "run", 0, 1000, None, status="completed"),
    a_span("q", "queued", 0, 100),
    a_span("a", "attempt", 100, 1000, attempt=1, status="failed"),
    a_span("p", "placed", 100, 200, "a"),
    a_span("u", "ran", 200, 1000, "a"),
    a_span("<script>", "checkpoint", 300, 400, "u", size_bytes=5),
    a_span("c", "child", 500, 600, "u", of_child={"id": "run_1/../x"}),
]


def test_phases_stand_in_the_row_of_their_attempt_and_bars_on_one_scale() -> None:
    listed = rows(SPANS)
    assert [row.name for row in listed] == ["r", "q", "attempt 1", "<script>", "c"]
    assert [span["kind"] for span in listed[2].spans] == ["placed", "ran"]
    assert listed[4].href == "/runs/run_1%2F..%2Fx"
    place = scale(SPANS, equal=False)
    assert place(0) == 250.0
    assert place(1000) == pytest.approx(952.0)
    assert place(500) == pytest.approx(601.0)
    assert place(99_999) == place(1000), "nothing is drawn outside"
    drawn = draw(SPANS)
    assert "<script>" not in drawn
    assert "&lt;script&gt;" in drawn


def test_steps_may_be_equally_wide() -> None:
    spans = [
        a_span("r", "run", 0, 1_000_000, None),
        a_span("a", "attempt", 0, 10),
        a_span("w", "wait", 10, 999_990),
    ]
    place = scale(spans, equal=True)
    widths = [place(10) - place(0), place(999_990) - place(10), place(1_000_000) - place(999_990)]
    assert widths == pytest.approx([234.0, 234.0, 234.0])
    assert place(5) == pytest.approx(250 + 117)


HOUR = 3_600_000


def test_long_waits_are_cut_short_and_say_so() -> None:
    spans = [
        a_span("r", "run", 0, 48 * HOUR + 2000, None),
        a_span("a", "attempt", 0, 1000, attempt=1),
        a_span("w", "wait", 1000, 48 * HOUR),
        a_span("b", "attempt", 48 * HOUR, 48 * HOUR + 1000, attempt=2),
    ]
    assert gaps(spans) == [(1000, 48 * HOUR)]
    place = scale(spans, equal=False)
    whole = place(48 * HOUR + 2000) - place(0)
    assert whole == pytest.approx(702)
    assert place(48 * HOUR) - place(1000) == pytest.approx(0.06 * whole)
    assert place(1000) - place(0) == pytest.approx(0.94 / 3 * whole)
    assert "1 d 23 h in which nothing begins or ends, cut short" in draw(spans)
    assert "cut short" not in draw(spans, equal=True)


def test_the_time_of_one_span_is_drawn_alone() -> None:
    spans = [
        a_span("r", "run", 0, 100_000, None),
        a_span("a", "attempt", 0, 10_000, attempt=1),
        a_span("c", "checkpoint", 2_000, 4_000, "a"),
        a_span("w", "wait", 10_000, 90_000),
        a_span("b", "attempt", 90_000, 100_000, attempt=2),
    ]
    part = within(spans, spans[1])
    assert [(one["id"], one["begin_ms"], one["end_ms"]) for one in part] == [
        ("r", 0, 10_000),
        ("a", 0, 10_000),
        ("c", 2_000, 4_000),
    ]
    place = scale(part, equal=False)
    assert place(4_000) - place(2_000) == pytest.approx(702 / 5)
    picture = draw(part, enlarged=lambda span: f"/there?zoom={span}")
    assert "100 s" in picture or "1 min" in picture, "the run's own time, of which this is a part"
    assert 'href="/there?zoom=c"' in picture
    assert "zoom=r" not in picture
    assert [one["begin_ms"] for one in within(spans, spans[4])] == [0, 0]


def test_work_is_not_cut_however_long_it_takes() -> None:
    spans = [a_span("r", "run", 0, 5 * HOUR, None), a_span("u", "ran", 0, 4 * HOUR)]
    assert gaps(spans) == [], "an hour is not more than an hour"
    spans = [a_span("r", "run", 0, 5 * HOUR, None), a_span("u", "ran", 0, 5 * HOUR)]
    place = scale(spans, equal=False)
    assert place(2.5 * HOUR) - place(0) == pytest.approx(351)
    assert gaps(spans) == []


def test_gaps_never_take_all_of_the_room() -> None:
    spans = [a_span("r", "run", 0, 100 * 2 * HOUR, None)]
    spans += [a_span(f"a{n}", "attempt", n * 2 * HOUR, n * 2 * HOUR + 1000, attempt=n) for n in range(100)]
    place = scale(spans, equal=False)
    long = gaps(spans)
    assert len(long) == 100
    taken = sum(place(end) - place(begin) for begin, end in long)
    assert taken == pytest.approx(0.4 * 702)
    assert place(200 * HOUR) == pytest.approx(952)


def test_many_of_one_kind_are_folded_and_the_picture_is_bounded() -> None:
    many = [a_span(f"k{n}", "checkpoint", n, n + 1) for n in range(500)]
    many += [a_span(f"c{n}", "child", n, n + 1, of_child={"id": f"c{n}"}) for n in range(200)]
    many += [a_span(f"a{n}", "attempt", n * 10, n * 10 + 5, attempt=n) for n in range(50)]
    spans = [a_span("r", "run", 0, 1000, None), *many]
    listed = rows(spans)
    assert [row.name for row in listed[-2:]] == ["500 checkpoints", "200 runs that it has triggered"]
    drawn = draw(spans)
    assert drawn.count("<") / 2 < 3500
    assert len(drawn) < 150_000


def test_a_span_that_goes_on_says_so() -> None:
    (row,) = rows([a_span("r", "run", 0, 10, None, ended_at=None, status="running")])
    assert row.words == "10 ms so far, running"
    (row,) = rows([{key: value for key, value in a_span("r", "run", 0, 10, None).items() if key != "ended_at"}])
    assert row.words == "10 ms so far"


def test_what_ended_stands_in_its_hour_and_nothing_in_the_others() -> None:
    now = datetime(2026, 1, 2, 3, 30, tzinfo=UTC)
    points = [
        {"at": "2026-01-02T01:00:00.000Z", "runs": 4, "failed": 1},
        {"at": "2026-01-02T03:00:00.000Z", "runs": 2, "failed": 0},
    ]
    drawn = ends(points, "24h", now)
    titles = re.findall("<title>([^<]*)</title>", drawn)
    assert len(titles) == 25
    assert titles[-3] == "2026-01-02 01:00: ended 3, failed 1"
    assert titles[-2] == "2026-01-02 02:00: nothing"
    assert titles[-1] == "2026-01-02 03:00: ended 2"
    assert (
        len(re.findall("<title>", ends([{"at": "2026-01-02T00:00:00.000Z", "runs": 1, "failed": 1}], "7d", now)))
        == 8
    )
    assert ends([], "24h", now) == ""


def test_a_curve_against_memory_is_drawn_by_its_logarithm() -> None:
    drawn = against([Point(1, 4, "<1>"), Point(2, 2, "2"), Point(4, 0, "4")], 2, "l")
    assert re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawn) == [
        ("6.0", "8.0"),
        ("300.0", "57.0"),
        ("594.0", "106.0"),
    ]
    assert 'd="M300.0 0V110"' in drawn, "what there is now"
    assert "&lt;1&gt;" in drawn
    assert "f-limit" not in against([Point(1, 1, ""), Point(2, 1, "")], 8, "l")
    assert against([Point(1, 1, "")], None, "l") == ""
