"""The memory of a run in few points, and when they are told."""

from __future__ import annotations

import json
import selectors
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samovar import wire
from samovar.harness import attempt as harness
from samovar.harness.attempt import Attempt
from samovar.harness.curve import INTERVAL, Curve
from samovar.harness.ends import Ends
from samovar.harness.link import Link

from coordinator.wire import CURVE_UNIT
from coordinator.wire import Curve as Told

MIB = 1024 * 1024


def filled(looks: list[tuple[float, int]]) -> wire.Message:
    curve = Curve()
    for at, memory in looks:
        curve.add(at, memory)
    return curve.told()


def test_each_look_is_a_point_until_there_are_too_many() -> None:
    looks = [(INTERVAL * (n + 1) + 0.7, MIB * n) for n in range(wire.CURVE_POINTS)]
    told = filled(looks)
    assert told == {"interval_ms": INTERVAL, "points": [16 * n for n in range(wire.CURVE_POINTS)]}
    told = filled([*looks, (INTERVAL * (wire.CURVE_POINTS + 1), 7 * MIB)])
    pairs = [16 * n for n in range(1, wire.CURVE_POINTS, 2)]
    assert told == {"interval_ms": 2 * INTERVAL, "points": [*pairs, 16 * 7]}


def test_what_was_not_looked_at_is_as_it_is_seen_then() -> None:
    assert filled([(250, MIB), (1250, 3 * MIB), (1300, 2 * MIB)])["points"] == [16, 48, 48, 48, 48]


@given(
    st.lists(st.tuples(st.floats(0, 1e5), st.integers(0, 2**50)), min_size=1, max_size=300),
    st.sampled_from([1, 1000, 1e6]),
)
def test_the_highest_point_stays_and_the_whole_is_small(steps: list[tuple[float, int]], scale: float) -> None:
    at = 0.0
    looks = []
    for step, memory in steps:
        at += step * scale / 1000
        looks.append((at, memory))
    told = filled(looks)
    assert 1 <= len(told["points"]) <= wire.CURVE_POINTS
    most = max(memory for _, memory in looks)
    assert max(told["points"]) == min(wire.CURVE_MOST, round(most / wire.CURVE_UNIT))
    # it covers the whole time, and no more than an interval besides
    covered = told["interval_ms"] * len(told["points"])
    assert at - INTERVAL <= covered <= at + told["interval_ms"] + INTERVAL
    assert len(json.dumps(told, separators=(",", ":"))) <= 1024
    assert Told.model_validate(told).model_dump(exclude_none=True) == told
    assert wire.CURVE_UNIT == CURVE_UNIT


def test_it_is_told_from_time_to_time_and_where_memory_is_not_told_nobody_asks_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = 100.0
    monkeypatch.setattr(harness.time, "monotonic", lambda: now)
    link = Link(str(tmp_path / "none"), 1e9, dict)
    with selectors.DefaultSelector() as selector:
        one = Attempt({"attempt": "a1"}, link, selector)
        assert one.look_at is None
        one.open(ends := Ends())
        told_at = []
        while now < 125:
            now = one.look_at or 0.0
            one.looked(int(now) * MIB)
            one.tick()
            for number, (line, _, _) in list(link._unanswered.items()):
                report = json.loads(line)
                assert (report["type"], report["progress"], report["metadata"]) == (wire.REPORT, None, None)
                assert max(report["curve"]["points"]) == 16 * int(now)
                told_at.append(now)
                link._answer({"reply": number, "ok": True})
        assert told_at == [110.0, 120.0]
        assert one.curve is not None
        assert len(one.curve.told()["points"]) == 100
        one.looked(0)
        assert one.look_at is None
        assert not one.looks_closer(), "where nothing is told nobody is asked who holds it"
        ends.given()
        one.drain()


def test_who_holds_it_is_told_at_once_where_it_grows_and_no_oftener(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = 100.0
    monkeypatch.setattr(harness.time, "monotonic", lambda: now)
    with selectors.DefaultSelector() as selector:
        one = Attempt({"attempt": "a1"}, Link(str(tmp_path / "none"), 1e9, dict), selector)
        one.open(ends := Ends())
        told, asked = [], []
        for quarter in range(40):
            now = 100.25 + quarter / 4
            one.looked((80 + min(quarter, 15)) * MIB)
            if one.looks_closer():
                asked.append(now)
                one.saw({"memory": (80 + min(quarter, 15)) * MIB, "scratch": MIB, "processes": []}, 100 * MIB)
            if report := one._report.pop("curve", None):
                told.append(now)
                assert Told.model_validate(report).near is not None
        assert len(asked) == 10, "once a second"
        assert told == [100.25, 102.25, 104.25, 110.0], "with what it has grown by, and from time to time"
        one.saw({"memory": MIB, "scratch": 3 * MIB, "processes": []}, killed=True)
        near = one.curve.told()["near"]  # type: ignore[union-attr]
        assert (near["memory"], near["scratch"], near["killed"]) == (95 * MIB, 3 * MIB, True)
        ends.given()
        one.drain()
