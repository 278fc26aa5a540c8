"""JSON that people write into forms."""

from __future__ import annotations

import json
from typing import Any

from coordinator.api.inside import Refusal


def value(name: str, text: str) -> Any:
    """The value of the field `name`. Raises Refusal."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise _wrong(name, f"{text[:80]!r} is not JSON: {error}") from None


def payload(text: str) -> dict[str, Any]:
    """A task's whole payload. Raises Refusal."""
    given = value("payload", text)
    if not isinstance(given, dict):
        raise _wrong("payload", "give an object, the arguments of the task by their names")
    return given


def _wrong(name: str, message: str) -> Refusal:
    return Refusal(422, "invalid", f"{name}: {message}", [{"path": name, "message": message}])
