"""What the other models are made of: paths, durations, amounts of memory, the words for statuses and ends."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

API = "/api/v1"
FLEET = "/internal/v1"

#: Most seconds that anything may take or be put off: some thirty years.
MAX_SECONDS = 1e9
#: The end of the year 9999, in seconds since the epoch: the last time that can be written.
MAX_MOMENT = 253_402_300_799.0
#: Values in a JSON tree, and lists and objects inside one another. A payload may be less deep: see limits.py.
MAX_NODES = 500_000
MAX_TREE_DEPTH = 200
#: Most items of a list that has no smaller number of its own.
MAX_ITEMS = 100_000


def _tree(value: JsonValue) -> JsonValue:
    """Counts a JSON value, and leaves it as it is."""
    level = [value] if isinstance(value, (dict, list)) else []
    nodes = depth = 0
    while level:
        depth += 1
        inner: list[dict[str, JsonValue] | list[JsonValue]] = []
        for outer in level:
            nodes += len(outer)
            parts = outer.values() if isinstance(outer, dict) else outer
            inner += [item for item in parts if isinstance(item, (dict, list))]
        if nodes > MAX_NODES or depth > MAX_TREE_DEPTH:
            raise ValueError(f"has more than {MAX_NODES} values, or is nested more than {MAX_TREE_DEPTH} deep")
        level = list(inner)
    return value


def _clamped(least: float, most: float) -> BeforeValidator:
    """For what a run's own code decides: a number that is out of range is the nearest one in it."""

    def clamp(value: object) -> object:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return most if value != value or value > most else least if value < least else value
        return value

    return BeforeValidator(clamp)


Json = Annotated[JsonValue, AfterValidator(_tree)]

#: A name, an id, a cursor: what stands in an address or a key of the database.
Name = Annotated[str, Field(max_length=512)]
#: A time in ISO 8601, and a word of ours.
Word = Annotated[str, Field(max_length=128)]
#: Text for people.
Text = Annotated[str, Field(max_length=16 * 1024 * 1024)]
#: What the database's integers hold.
Whole = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, Field(ge=0, le=10**9)]
Bytes = Annotated[int, Field(ge=0, le=2**53)]
Number = Annotated[float, Field(ge=-1e15, le=1e15, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]
ClampedSeconds = Annotated[float, _clamped(0, MAX_SECONDS), Field(ge=0, le=MAX_SECONDS)]
ClampedMilliseconds = Annotated[float, _clamped(0, 1000 * MAX_SECONDS), Field(ge=0, le=1000 * MAX_SECONDS)]
ClampedMoment = Annotated[float, _clamped(0, MAX_MOMENT), Field(ge=0, le=MAX_MOMENT)]
Object = Annotated[dict[Annotated[str, Field(max_length=4096)], Json], Field(max_length=MAX_ITEMS)]
#: Names with texts: headers, mounts.
Texts = Annotated[dict[Name, Text], Field(max_length=MAX_ITEMS)]
Names = Annotated[list[Name], Field(max_length=MAX_ITEMS)]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)([kmgt]?)(?:i?b)?", re.IGNORECASE)
_BYTES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


def parse_duration(value: object) -> float:
    """Seconds in `value`: a number of seconds, or text such as "500ms", "90s", "15m", "2h", "7d"."""
    seconds: float | None = None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MAX_SECONDS:
        seconds = float(value)
    elif isinstance(value, str) and len(value) <= 40 and (match := _DURATION.fullmatch(value.strip())):
        seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds is None or seconds > MAX_SECONDS:
        shown = str(value)[:80] if isinstance(value, (str, float)) else "this"
        raise ValueError(
            f'{shown!r} is not a duration: give seconds, or text such as "500ms", "90s", "15m", "7d"; '
            f"{MAX_SECONDS:.0f} seconds at most"
        )
    return seconds


def parse_memory(value: object) -> int:
    """Bytes in `value`: a number of bytes, or text such as "512m", "2g"."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 2**53:
        return value
    # 24 digits are more than any number of bytes, and far from where a float becomes infinite
    if isinstance(value, str) and len(value) <= 24 and (match := _MEMORY.fullmatch(value.strip())):
        return min(int(float(match[1]) * _BYTES[match[2].lower()]), 2**53)
    raise ValueError(f'{str(value)[:80]!r} is not an amount of memory: give bytes, or text such as "512m", "2g"')


Duration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0, le=MAX_SECONDS)]
Memory = Annotated[int, BeforeValidator(parse_memory), Field(ge=0, le=2**53)]

#: What an event may be named.
EVENT_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.:/-]*$"

RunStatus = Literal[
    "queued", "delayed", "running", "waiting", "completed", "failed", "canceled", "timed_out", "expired"
]
#: The statuses a run never leaves.
FINAL = frozenset({"completed", "failed", "canceled", "timed_out", "expired"})
Reason = Literal["exception", "out_of_memory", "timeout", "lost", "canceled", "rejected"]
Outcome = Literal["completed", "failed", "canceled", "timed_out", "waiting"]
#: How an attempt began: in a container that had stood ready, warm after a run or as a stem with the modules
#: imported and nothing run; in one that it waited for until it came free; or in one that was started for it.
Start = Literal["warm", "stem", "waited", "cold"]
#: Why a container had to be started: none of its kind was there before on the runner, or the last one had been
#: evicted, had had its runs or age (`limit`), grew (`leak`), was unclean, died, failed to start, or was idle too
#: long; it is of a new version or of other limits; those there are were busy (`parallel`); none is ever kept.
Cause = Literal[
    "first",
    "evicted",
    "version",
    "limit",
    "parallel",
    "leak",
    "unclean",
    "died",
    "failed",
    "expired",
    "not_kept",
]
#: What a run has to itself.
Isolation = Literal["process", "container", "inline"]


#: Unknown fields that are named one by one.
_MOST_UNKNOWN = 50


class BaseModel(pydantic.BaseModel):
    """A message. Its validator is built when one is first made or read: every part uses a share of them only, and
    building all takes longer than importing anything else.
    """

    model_config = ConfigDict(defer_build=True)


class Strict(BaseModel):
    """A body that a person or a program sends: an unknown field is an error, not silence."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _few(cls, value: Any) -> Any:
        # each unknown field is an error of its own
        if isinstance(value, dict) and len(value) > len(cls.model_fields) + _MOST_UNKNOWN:
            known = ", ".join(cls.model_fields)
            raise ValueError(f"an object of {len(value)} fields: there are {known}")
        return value
