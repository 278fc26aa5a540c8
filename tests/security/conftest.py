"""What the attacks share: a coordinator to send requests to."""

from __future__ import annotations

from tests.unit.coordinator.conftest import api

__all__ = ["api"]
