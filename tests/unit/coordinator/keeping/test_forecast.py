"""When a run had better wait for a busy container."""

from __future__ import annotations

from coordinator.keeping.forecast import START, Forecast


def known(run: float, start: float) -> Forecast:
    forecast = Forecast()
    for _ in range(20):
        forecast.ran("t", run)
        forecast.started("k", start)
    return forecast


def test_a_run_waits_for_what_is_free_sooner_than_a_start_would_take() -> None:
    assert known(run=0.2, start=1.0).worth_waiting("k", [("t", 0.1)], before=0) == 1.0
    assert known(run=5.0, start=1.0).worth_waiting("k", [("t", 0.1)], before=0) is None
    # it has four fifths behind it
    assert known(run=5.0, start=1.0).worth_waiting("k", [("t", 4.2)], before=0) == 1.0


def test_each_that_waits_needs_one_of_its_own() -> None:
    forecast = known(run=0.2, start=1.0)
    busy = [("t", 0.1), ("t", 0.05)]
    assert [forecast.worth_waiting("k", busy, before) is not None for before in range(4)] == [
        True,
        True,
        False,
        False,
    ]


def test_nobody_waits_for_what_nobody_knows() -> None:
    forecast = Forecast()
    assert forecast.start("k") == START
    assert forecast.worth_waiting("k", [("t", 0.0)], before=0) is None
    assert forecast.worth_waiting("k", [], before=0) is None


def test_one_that_has_gone_on_for_long_is_taken_to_go_on() -> None:
    forecast = known(run=0.2, start=1.0)
    assert forecast.left("t", 0.15) is not None
    left = forecast.left("t", 10.0)
    assert left is not None
    assert left >= 5.0
    assert forecast.worth_waiting("k", [("t", 10.0)], before=0) is None


def test_what_varies_is_given_its_time() -> None:
    forecast = Forecast()
    for n in range(40):
        forecast.ran("t", 0.1 if n % 2 else 0.9)
    left = forecast.left("t", 0.0)
    assert left is not None
    assert 0.6 < left < 1.2


def test_new_figures_take_the_place_of_old_ones() -> None:
    forecast = known(run=5.0, start=1.0)
    for _ in range(20):
        forecast.ran("t", 0.1)
        forecast.started("k", 3.0)
    left = forecast.left("t", 0.0)
    assert left is not None
    assert left < 0.2
    assert forecast.start("k") > 2.9
