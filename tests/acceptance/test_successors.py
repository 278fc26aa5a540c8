"""Warm containers that have served long enough leave without a run that pays for it."""

from __future__ import annotations

import pytest

from tests.stack import stack
from tests.waiting import eventually

pytestmark = pytest.mark.docker

RUNS = 14


def test_no_run_after_the_first_is_cold() -> None:
    seen: set[str] = set()
    with stack(SAMOVAR_RUNNER_MAX_RUNS="4") as samovar:
        samovar.deploy("insider")
        starts = []
        for _ in range(RUNS):
            starts.append(samovar.finished("nothing")["timings"]["start"])
            seen |= {entry["container"] for entry in samovar.pool()}
        # (they may all be over before another container is ready)
        eventually(lambda: len(seen | {entry["container"] for entry in samovar.pool()}) > 1, "one to be replaced")
    assert starts[0] == "cold"
    assert "cold" not in starts[1:], starts
