"""What the tests of attacks share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.security import canary
from tests.unit.coordinator.conftest import api

__all__ = ["api", "unchanged_host"]


@pytest.fixture(scope="module")
def unchanged_host() -> Iterator[None]:
    """The host is unchanged when all of this has been tried."""
    before = canary.look()
    yield
    after = canary.look()
    assert {key: (before[key], after[key]) for key in before if before[key] != after[key]} == {}
