"""What the other models are made of: paths, durations, amounts of memory, the words for statuses and ends."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, JsonValue

API = "/api/v1"
FLEET = "/internal/v1"

Json = JsonValue

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)([kmgt]?)(?:i?b)?", re.IGNORECASE)
_BYTES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


def parse_duration(value: object) -> float:
    """Seconds in `value`: a number of seconds, or text such as "500ms", "90s", "15m", "2h", "7d"."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return float(match[1]) * _SECONDS[match[2]]
    raise ValueError(f'{value!r} is not a duration: give seconds, or text such as "500ms", "90s", "15m", "7d"')


def parse_memory(value: object) -> int:
    """Bytes in `value`: a number of bytes, or text such as "512m", "2g"."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    # 24 digits are more than any number of bytes, and far from where a float becomes infinite
    if isinstance(value, str) and len(value) <= 24 and (match := _MEMORY.fullmatch(value.strip())):
        return int(float(match[1]) * _BYTES[match[2].lower()])
    raise ValueError(f'{value!r} is not an amount of memory: give bytes, or text such as "512m", "2g"')


Duration = Annotated[float, BeforeValidator(parse_duration)]
Memory = Annotated[int, BeforeValidator(parse_memory)]

#: What an event may be named.
EVENT_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.:/-]*$"

RunStatus = Literal[
    "queued", "delayed", "running", "waiting", "completed", "failed", "canceled", "timed_out", "expired"
]
#: The statuses a run never leaves.
FINAL = frozenset({"completed", "failed", "canceled", "timed_out", "expired"})
Reason = Literal["exception", "out_of_memory", "timeout", "lost", "canceled", "rejected"]
Outcome = Literal["completed", "failed", "canceled", "timed_out", "waiting"]
Start = Literal["warm", "cold"]


class Strict(BaseModel):
    """A body that a person or a program sends: an unknown field is an error, not silence."""

    model_config = ConfigDict(extra="forbid")
