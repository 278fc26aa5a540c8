"""The pace of a container's requests, under a clock that the test moves."""

from __future__ import annotations

from sidecar.pace import Pace


def test_a_burst_goes_at_once_and_then_the_rate_holds() -> None:
    now = [100.0]
    pace = Pace(10, 5, lambda: now[0])
    now[0] += 60
    assert [pace.take() for _ in range(5)] == [0.0] * 5
    waits = [pace.take() for _ in range(10)]
    assert [round(w, 6) for w in waits] == [round(0.1 * n, 6) for n in range(1, 11)]
    now[0] += 1.0
    assert round(pace.take(), 6) == 0.1
    now[0] += 60
    assert [pace.take() for _ in range(5)] == [0.0] * 5, "what was not used is not saved up beyond the burst"
    assert pace.take() > 0
