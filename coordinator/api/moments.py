"""Times as requests write them: in ISO 8601, or how long ago or from now. They raise Invalid, naming the field."""

from __future__ import annotations

from datetime import UTC, datetime

from coordinator.foundation.errors import invalid_field
from coordinator.wire import parse_duration


def since(text: str, field: str = "since") -> float:
    """Seconds since the epoch; a duration is how long ago."""
    return _moment(field, text, -1, "a duration such as 90s, 15m, 2h, 7d")


def until(text: str) -> float:
    """Seconds since the epoch; a duration is how long from now."""
    return _moment("until", text, 1, "for how long, such as 15m, 2h, 7d")


def _moment(field: str, text: str, sign: int, other: str) -> float:
    try:
        return datetime.now(UTC).timestamp() + sign * parse_duration(text)
    except ValueError:
        pass
    try:
        # a "+" of an offset that was not quoted in the URL arrives as a space
        moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise invalid_field(field, f"{text!r} is neither a time in ISO 8601 nor {other}") from None
