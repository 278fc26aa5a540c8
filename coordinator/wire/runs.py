"""Runs over the public API: triggered, listed, replayed, and many at once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from coordinator.wire.basics import (
    MAX_ITEMS,
    BaseModel,
    Bytes,
    Duration,
    Json,
    Memory,
    Name,
    Names,
    Object,
    RunStatus,
    Start,
    Strict,
    Text,
    Whole,
    Word,
)
from coordinator.wire.kept import ErrorShown, LogCounts, Timings, Usage


class Debounce(Strict):
    """Triggers with one key become one run, which starts when none has come for `delay`, or after `max_delay`.

    `max_delay` counts from the first of them; default: 10 times the delay.
    """

    key: str = Field(min_length=1, max_length=512)
    delay: Duration
    max_delay: Duration | None = None


class TriggerRequest(Strict):
    payload: Object = Field(default_factory=dict)
    idempotency_key: str | None = Field(None, min_length=1, max_length=512)
    #: How long the key is the run's; default: as long as the run is kept.
    idempotency_ttl: Duration | None = None
    delay: Duration = 0.0
    ttl: Duration | None = None
    priority: int = Field(0, ge=-(10**9), le=10**9)
    concurrency_key: str | None = Field(None, max_length=512)
    tags: list[Annotated[str, Field(min_length=1, max_length=128)]] = Field(default_factory=list, max_length=32)
    memory: Memory | None = None
    version: Name | None = None
    debounce: Debounce | None = None


class Checked(BaseModel):
    """A trigger that would be taken: the version and memory (bytes) of its run. `run`: the one that its idempotency
    key has made before.
    """

    version: Name
    memory: Bytes
    run: Name | None = None


class BatchRequest(Strict):
    """Runs of one task, made all or none; the same idempotency key with the same items makes them once."""

    items: list[TriggerRequest] = Field(min_length=1, max_length=1000)
    idempotency_key: str | None = Field(None, min_length=1, max_length=512)
    idempotency_ttl: Duration | None = None


class Origin(BaseModel):
    """What triggered a run: `api` (a client), `schedule`, `failure` and `replay` (`id`: the run), `event`,
    `webhook` (`id`: the delivery), …
    """

    kind: Text = "api"
    id: Name | None = None


class Run(BaseModel):
    id: Name
    task: Name
    project: Name
    version: Name
    status: RunStatus
    attempt: Whole
    attempts: Whole
    payload: Json = None
    result: Json = None
    error: ErrorShown | None = None
    tags: Names = Field(default_factory=list)
    priority: Whole = 0
    concurrency_key: Name | None = None
    #: Null also where it was given up: the key is free.
    idempotency_key: Name | None = None
    created_at: Word
    started_at: Word | None = None
    finished_at: Word | None = None
    progress: Object | None = None
    metadata: Object = Field(default_factory=dict)
    timings: Timings = Field(default_factory=Timings)
    usage: Usage = Field(default_factory=Usage)
    #: Of all its attempts.
    logs: LogCounts = Field(default_factory=LogCounts)
    trace_id: Name
    origin: Origin = Field(default_factory=Origin)
    #: When its `total_timeout` is over.
    deadline_at: Word | None = None
    #: Whether it stands in the dead-letter list.
    dead_letter: bool = False
    #: The run that triggered it, and the first run of all.
    parent: Name | None = None
    root: Name | None = None


class ReplayRequest(Strict):
    """What differs from the run that is replayed; what is left out is taken from it.

    `version`: default the project's current deployment. `from_checkpoint`: checkpoints up to and including
    this one are copied to the new run, which so goes on after it. `memory`: default what the run had in the end, or
    what its task asks for by now where that is more.
    """

    payload: Object | None = None
    version: Name | None = None
    from_checkpoint: str | None = Field(None, max_length=512)
    memory: Memory | None = None


class RunFilter(Strict):
    """Which runs are meant: those that fit every condition given. At least one is wanted."""

    runs: list[Name] = Field(default_factory=list, max_length=1000)
    status: Annotated[list[RunStatus], Field(max_length=MAX_ITEMS)] = Field(default_factory=list)
    task: Name | None = None
    project: Name | None = None
    #: Those that this run has triggered.
    parent: Name | None = None
    tags: list[Name] = Field(default_factory=list, max_length=32)
    #: A time in ISO 8601, or how long ago.
    since: Text | None = None
    dead_letter: bool = False
    #: The fingerprint of what they ended with.
    error: Name | None = None
    version: Name | None = None
    #: What triggered them: "api", "schedule", "webhook", "run" …
    origin: Name | None = None
    start: Start | None = None
    #: That ran for longer, or run for longer by now.
    longer: Duration | None = None
    #: Since when they have ended, as `since`.
    ended: Text | None = None
    #: In the id, the keys or the error, in whichever case.
    text: Annotated[str, Field(min_length=1, max_length=256)] | None = None


class BulkRequest(Strict):
    """What to do with many runs, newest first: `limit` of them in one request, the others from `next` on.

    `version` is for replays. `dry_run`: only say which runs are meant.
    """

    filter: RunFilter
    version: Name | None = None
    cursor: Name | None = None
    limit: int = Field(100, ge=1, le=1000)
    dry_run: bool = False


class BulkItem(BaseModel):
    """What became of one of them: its status, the run that replays it, or why nothing was done."""

    run: Name
    task: Name
    status: RunStatus
    replay: Name | None = None
    problem: Text | None = None


class BulkAnswer(BaseModel):
    items: Annotated[list[BulkItem], Field(max_length=MAX_ITEMS)]
    next: Name | None = None


class RunPage(BaseModel):
    """Newest first; `payload` and `result` are left out of the items. `next` is null on the last page.

    `looked_back_to`: where a filter has no index, a page looks at 5,000 runs at most, and may have found few or
    none; that is when the oldest of them was made, and `next` goes on from there.
    """

    items: Annotated[list[Run], Field(max_length=MAX_ITEMS)]
    next: Name | None = None
    looked_back_to: Word | None = None


class BatchAnswer(BaseModel):
    """The runs of a batch, in the order of its items; `payload` and `result` are left out of them."""

    items: Annotated[list[Run], Field(max_length=MAX_ITEMS)]
    next: None = None


WhyReason = Literal[
    "delayed",
    "paused",
    "queue_limit",
    "key_limit",
    "rate",
    "global_limit",
    "no_runner",
    "memory",
    "share",
    "image",
    "turn",
    "running",
    "waiting",
    "ended",
]


class Why(BaseModel):
    """Why a run is not running. What does not belong to the reason is null.

    `until`: when that changes by itself. `limit` and `occupied`: of what the reason names (runs, or bytes of
    memory). `position`: its place among the queued runs of its task, concurrency key and memory, from 1 (at
    most 10,000); `takes_turns_with`: how many other such lines of its queue have queued runs.
    """

    run: Name
    status: RunStatus
    reason: WhyReason
    message: Text
    queue: Name
    concurrency_key: Name | None = None
    until: Word | None = None
    limit: Whole | None = None
    occupied: Whole | None = None
    position: Whole | None = None
    takes_turns_with: Whole | None = None
