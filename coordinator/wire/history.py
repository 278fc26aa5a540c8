"""What ended and how, over the public API: series, tasks with their figures, errors in groups."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from coordinator.wire.basics import MAX_ITEMS, BaseModel, Bytes, Count, Name, Number, Object, Strict, Text, Word

#: How far back the figures of a task reach.
Window = Literal["1h", "24h", "7d", "30d"]
Step = Literal["hour", "day"]

_Counts = Annotated[dict[Word, Count], Field(max_length=100)]


class Spread(BaseModel):
    """In milliseconds, to a tenth; null of nothing."""

    p50: Number | None = None
    p95: Number | None = None


class Ends(BaseModel):
    """What ended in some time. `failed`: of `runs` those that failed, timed out or expired.

    `statuses` are those of runs, all the other counts those of `attempts`, as are `queued_ms`, `start_ms`, `run_ms`
    and `peak_p99_bytes`; `total_ms` is that of runs, from trigger to end.
    """

    runs: Count = 0
    failed: Count = 0
    attempts: Count = 0
    statuses: _Counts = Field(default_factory=dict)
    outcomes: _Counts = Field(default_factory=dict)
    reasons: _Counts = Field(default_factory=dict)
    starts: _Counts = Field(default_factory=dict)
    causes: _Counts = Field(default_factory=dict)
    queued_ms: Spread = Field(default_factory=Spread)
    start_ms: Spread = Field(default_factory=Spread)
    run_ms: Spread = Field(default_factory=Spread)
    total_ms: Spread = Field(default_factory=Spread)
    peak_p99_bytes: Bytes | None = None


class HistoryPoint(Ends):
    """`at`: when the hour or day begins, in UTC."""

    at: Word


class HistoryPage(BaseModel):
    """The oldest first; an hour or day in which nothing ended is left out."""

    step: Step
    items: Annotated[list[HistoryPoint], Field(max_length=MAX_ITEMS)]
    next: None = None


class MemoryAdvice(BaseModel):
    """`less`, `more` or `fits`: what the task's attempts needed, against what it asks for.

    `share`: p99 of what was asked. `advised_bytes`: what to ask for; null where it fits.
    """

    kind: Literal["less", "more", "fits"]
    asked_bytes: Bytes
    p99_bytes: Bytes
    attempts: Count
    out_of_memory: Count
    share: Number
    advised_bytes: Bytes | None
    message: Text


class TaskFigures(Ends):
    """Of a window, which begins with a full hour: `since`. `per_hour`: runs that ended.

    `cold`: of all starts those in a container that had to be started; null where there were none.
    """

    window: Window
    since: Word
    per_hour: Number
    cold: Number | None = None
    memory: MemoryAdvice | None = None


class TaskState(BaseModel):
    """A task of a project's current version, or the one asked for, with its options as they were declared.

    `parameters`: the JSON Schema of its payload, where one task alone was asked for.
    """

    project: Name
    task: Name
    version: Name
    doc: Text | None
    options: Object
    parameters: Object | None = None
    figures: TaskFigures


class TaskPage(BaseModel):
    items: Annotated[list[TaskState], Field(max_length=MAX_ITEMS)]
    next: Name | None = None


ErrorStatus = Literal["open", "muted", "resolved"]


class ErrorGroup(BaseModel):
    """Errors that are alike. `type`, `title`, `last_run` and `last_version` are those of the last one.

    `count`: attempts that ended so, and runs that did without one; `runs`: those that came to their end by it.
    `spark`: how often in each of the last 24 hours, the current one last. `reopened_at`: since when it is open
    again.
    """

    project: Name
    fingerprint: Name
    status: ErrorStatus
    type: Text
    title: Text
    count: Count
    runs: Count
    first_seen: Word
    last_seen: Word
    last_run: Name
    last_version: Name
    #: The last first, and the latest first: 20 of each.
    tasks: Annotated[list[Name], Field(max_length=100)]
    versions: Annotated[list[Name], Field(max_length=100)]
    spark: Annotated[list[Count], Field(max_length=24)]
    resolved_at: Word | None = None
    resolved_version: Name | None = None
    reopened_at: Word | None = None
    muted_until: Word | None = None


class ErrorPage(BaseModel):
    """Those seen last first."""

    items: Annotated[list[ErrorGroup], Field(max_length=MAX_ITEMS)]
    next: Name | None = None


class ResolveRequest(Strict):
    """`version`: the one that no longer has the error; default: the project's current one."""

    version: Name | None = None


class MuteRequest(Strict):
    """`until`: a time in ISO 8601, or for how long: `2h`, `7d`."""

    until: Word
