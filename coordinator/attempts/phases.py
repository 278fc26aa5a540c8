"""Where the time of an attempt went: the columns of its row, from what each part knows by its own clock.

The runner knows how long a container took to be found, the sidecar how long it took to connect and to import, and
the database when the attempt was claimed, began and ended. What is left of claim to start is the hand-over: so the
phases add up to the whole, and no clock of one host is held against another's.
"""

from __future__ import annotations

from typing import Any

from coordinator.wire import Lost, Started

#: What an attempt knows when it begins.
AT_START = (
    "cause",
    "evicted_by_project",
    "evicted_by_task",
    "container",
    "container_run",
    "placed_ms",
    "starting_ms",
    "importing_ms",
    "handed_ms",
)


def at_start(body: Started, took: float) -> dict[str, Any]:
    """The columns AT_START; `took`: seconds from the claim to the first line of user code."""
    found = _placed(body)
    parts = [body.starting, body.importing]
    found["starting_ms"], found["importing_ms"] = (None if part is None else 1000 * part for part in parts)
    found["handed_ms"] = None
    if body.placing is not None and body.starting is not None:
        known = body.placing.seconds + body.starting + (body.importing or 0.0)
        found["handed_ms"] = max(0.0, took - known) * 1000
    return found


def unbegun(body: Lost) -> dict[str, Any]:
    """The columns of an attempt that had a container, and came to no user code."""
    return {} if body.placing is None else {"start": body.start, **_placed(body)}


def at_end(began: float | None, now: float, reported: float | None) -> dict[str, float]:
    """The columns of an attempt that began at `began` and ends now; `reported`: seconds since it has said so."""
    if began is None:
        return {}
    whole = max(0.0, now - began)
    late = min(whole, reported or 0.0)
    return {"ran_ms": (whole - late) * 1000, "reported_ms": late * 1000}


def _placed(body: Started | Lost) -> dict[str, Any]:
    placing = body.placing
    by = None if placing is None else placing.evicted_by
    return {
        "cause": None if placing is None else placing.cause,
        "evicted_by_project": None if by is None else by.project,
        "evicted_by_task": None if by is None else by.task,
        "container": None if placing is None else placing.container,
        "container_run": None if placing is None else placing.number,
        "placed_ms": None if placing is None else 1000 * placing.seconds,
    }
