"""A little of `make fuzz`, so that it stays able to run."""

from __future__ import annotations

import importlib

import pytest

from tests.security.attempts import attempt
from tests.security.fuzz import TARGETS


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            "protocol",
            marks=attempt(
                "process 1", "made-up messages, spoiled ones", "all of these", "no crash, no hang, no growth"
            ),
        ),
        pytest.param(
            "egress",
            marks=attempt(
                "process 1", "made-up requests at the way out", "all of these", "no crash, no hang, no growth"
            ),
        ),
        *(sorted(TARGETS.keys() - {"protocol", "egress"})),
    ],
)
def test_made_up_input_breaks_nothing(name: str) -> None:
    assert importlib.import_module(TARGETS[name]).fuzz(5)
