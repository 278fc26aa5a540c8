"""The concurrency key of a run: given with the trigger, or a field of its payload that the task names."""

from __future__ import annotations

from typing import Any

from coordinator.foundation.errors import invalid_field

_LONGEST = 512


def key(given: str | None, path: str | None, payload: dict[str, Any]) -> str | None:
    """The key as text; None for none: not given, and the payload has nothing (or null, or "") at `path`.

    Raises Invalid where the payload has something there that is no text, number or boolean.
    """
    if given is not None:
        return given or None
    if path is None:
        return None
    value: Any = payload
    for part in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, (str, int, float)):
        kind = "an object" if isinstance(value, dict) else "a list"
        raise invalid_field(path, f"is {kind}: the task's concurrency key, which is a text, a number or a boolean")
    text = str(value)
    if len(text) > _LONGEST:
        raise invalid_field(path, f"has {len(text)} characters: a concurrency key has at most {_LONGEST}")
    return text
