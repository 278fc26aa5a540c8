"""Warm containers that have served long enough leave without a run that pays for it."""

from __future__ import annotations

import pytest

from tests.stack import stack

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
    assert starts[0] == "cold"
    assert "cold" not in starts[1:], starts
    assert len(seen) > 1, "none was replaced"
