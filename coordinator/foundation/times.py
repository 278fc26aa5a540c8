"""Times as the API writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from coordinator.wire.basics import MAX_MOMENT


def iso(seconds: float | None) -> Any:
    """ISO 8601 in UTC with milliseconds; None for None."""
    if seconds is None:
        return None
    # what is beyond the calendar, and none at all, stands at its end: a row that holds such a time is shown
    seconds = seconds if 0 <= seconds <= MAX_MOMENT else 0 if seconds < 0 else MAX_MOMENT
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
