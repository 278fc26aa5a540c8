"""Warm containers that have served long enough leave without a run that pays for it."""

from __future__ import annotations

import pytest

from tests.stack import stack
from tests.waiting import eventually

pytestmark = pytest.mark.docker

RUNS = 14


def test_no_run_after_the_first_is_cold() -> None:
    with stack(SAMOVAR_RUNNER_MAX_RUNS="4") as samovar:
        samovar.deploy("insider")
        starts = [samovar.finished("nothing")["timings"]["start"] for _ in range(RUNS)]

        def replaced() -> bool:
            return "runs" in {life["why"] for life in samovar.cli("pool")["left"]}

        eventually(replaced, "one to have left because of its runs")
    assert starts[0] == "cold"
    assert "cold" not in starts[1:], starts
