"""What a tick gives its task: those of `scheduled_at` and `previous_at` that the task declares."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from coordinator.foundation.errors import Invalid
from coordinator.storage.values import encode_small
from coordinator.tasks import cron
from coordinator.tasks.payloads import Payloads
from coordinator.wire import FieldProblem


def arguments(schema: dict[str, Any], timezone: str, at: float, previous: float | None) -> dict[str, Any]:
    """The payload of a tick's run. The first tick has no previous one: `previous_at` is then left to its default,
    and null where it has none.
    """
    declared = schema.get("properties", {})
    given: dict[str, Any] = {"scheduled_at": local(at, timezone)} if "scheduled_at" in declared else {}
    if "previous_at" in declared:
        if previous is not None:
            given["previous_at"] = local(previous, timezone)
        elif "previous_at" in schema.get("required", []):
            given["previous_at"] = None
    return given


def local(at: float, timezone: str) -> str:
    """ISO 8601 with the zone's offset: its date is the one that people there have. Raises BadSchedule."""
    return datetime.fromtimestamp(at, cron.zone(timezone)).isoformat()


def problems(task: str, schema: dict[str, Any]) -> list[FieldProblem]:
    """Why a schedule could not make runs of a task with this schema: parameters that nothing fills."""
    found: dict[str, str] = {}
    for previous in (None, 0.0):
        try:
            Payloads().check("", task, encode_small(schema), arguments(schema, "UTC", 86400.0, previous))
        except Invalid as error:
            for field in error.fields:
                found.setdefault(field.path, _remedy(field, first=previous is None))
    return [FieldProblem(path=f"{task}.schedule", message=message) for message in found.values()]


def _remedy(field: FieldProblem, *, first: bool) -> str:
    if field.path == "previous_at" and first:
        return "previous_at is None at the first tick: annotate it Optional[datetime], or give it a default"
    if field.path in ("scheduled_at", "previous_at"):
        return f"{field.path} is a time ({field.message}): annotate it datetime or str"
    return (
        f"nothing fills the parameter {field.path!r} of a scheduled run ({field.message}): give it a default; "
        "a schedule gives scheduled_at and previous_at"
    )
