"""How an attempt began, and where its time went, for people."""

from __future__ import annotations

from typing import Any

from samovar.cli.output import milliseconds

_PHASES = (
    ("queued", "queued_ms"),
    ("placed", "placed_ms"),
    ("started", "started_ms"),
    ("imported", "imported_ms"),
    ("handed over", "handed_over_ms"),
    ("ran", "ran_ms"),
    ("reported", "reported_ms"),
)


def start(shown: dict[str, Any]) -> str:
    """Of a run's `timings` or of an attempt: "warm", or "cold (evicted by orders/report)"."""
    word = str(shown.get("start") or "")
    cause, by = shown.get("cause"), shown.get("evicted_by")
    if not cause:
        return word
    return f"{word} ({cause} by {by['project']}/{by['task']})" if by else f"{word} ({cause})"


def phases(shown: dict[str, Any]) -> str:
    """What it spent on each phase, in their order; empty where nothing is known."""
    found = shown.get("phases") or {}
    return ", ".join(f"{name} {milliseconds(found[key])}" for name, key in _PHASES if found.get(key) is not None)
