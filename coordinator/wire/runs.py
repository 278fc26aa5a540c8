"""Runs over the public API: triggered, listed, replayed, and what is kept of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from coordinator.wire.basics import Duration, Json, Memory, Reason, RunStatus, Start, Strict


class Debounce(Strict):
    """Triggers with one key become one run, which starts when none has come for `delay`, or after `max_delay`.

    `max_delay` counts from the first of them; default: 10 times the delay.
    """

    key: str = Field(min_length=1, max_length=512)
    delay: Duration
    max_delay: Duration | None = None


class TriggerRequest(Strict):
    payload: dict[str, Json] = Field(default_factory=dict)
    idempotency_key: str | None = Field(None, min_length=1, max_length=512)
    #: How long the key is the run's; default: as long as the run is kept.
    idempotency_ttl: Duration | None = None
    delay: Duration = 0.0
    ttl: Duration | None = None
    priority: int = Field(0, ge=-(10**9), le=10**9)
    concurrency_key: str | None = Field(None, max_length=512)
    tags: list[Annotated[str, Field(min_length=1, max_length=128)]] = Field(default_factory=list, max_length=32)
    memory: Memory | None = None
    version: str | None = None
    debounce: Debounce | None = None


class BatchRequest(Strict):
    """Runs of one task, made all or none; the same idempotency key with the same items makes them once."""

    items: list[TriggerRequest] = Field(min_length=1, max_length=1000)
    idempotency_key: str | None = Field(None, min_length=1, max_length=512)
    idempotency_ttl: Duration | None = None


class ErrorBody(BaseModel):
    type: str
    message: str
    traceback: str | None = None
    reason: Reason = "exception"


class Timings(BaseModel):
    queued_ms: float | None = None
    start_ms: float | None = None
    run_ms: float | None = None
    start: Start | None = None


class Usage(BaseModel):
    peak_memory_bytes: int | None = None
    memory_limit_bytes: int | None = None


class Origin(BaseModel):
    """What triggered a run: `api` (a client), `schedule`, `failure` and `replay` (`id`: the run), `event`,
    `webhook` (`id`: the delivery), …
    """

    kind: str = "api"
    id: str | None = None


class Run(BaseModel):
    id: str
    task: str
    project: str
    version: str
    status: RunStatus
    attempt: int
    attempts: int
    payload: Json = None
    result: Json = None
    error: ErrorBody | None = None
    tags: list[str] = Field(default_factory=list)
    priority: int = 0
    concurrency_key: str | None = None
    #: Null also where it was given up: the key is free.
    idempotency_key: str | None = None
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None
    progress: dict[str, Json] | None = None
    metadata: dict[str, Json] = Field(default_factory=dict)
    timings: Timings = Field(default_factory=Timings)
    usage: Usage = Field(default_factory=Usage)
    trace_id: str
    origin: Origin = Field(default_factory=Origin)
    #: When its `total_timeout` is over.
    deadline_at: str | None = None
    #: Whether it stands in the dead-letter list.
    dead_letter: bool = False
    #: The run that triggered it, and the first run of all.
    parent: str | None = None
    root: str | None = None


class Attempt(BaseModel):
    """One execution of a run, as `GET /runs/{id}/attempts` lists it."""

    id: str
    number: int
    runner: str
    status: str
    start: Start | None = None
    claimed_at: str
    started_at: str | None = None
    finished_at: str | None = None
    exit_code: int | None = None
    error: ErrorBody | None = None
    usage: Usage = Field(default_factory=Usage)


WaitKind = Literal["sleep", "until", "event", "token", "trigger", "run", "batch_trigger", "batch"]
WaitState = Literal["pending", "done", "timed_out", "closed"]


class TokenCompleted(BaseModel):
    completed: Literal[True]


class Checkpoint(BaseModel):
    """A result that a run has stored, or a wait of it (`kind` says which).

    `state` of a wait: `pending`, `done`, `timed_out`, or `closed` because the run ended before. `until`: when a
    pending one is over by itself. `name`: the event or task it is about; `runs`: the runs it is about.
    """

    key: str
    kind: Literal["checkpoint"] | WaitKind = "checkpoint"
    state: WaitState = "done"
    name: str | None = None
    until: str | None = None
    runs: list[str] | None = None
    value: Json
    attempt: int
    created_at: str
    size_bytes: int


class LogLine(BaseModel):
    """`partial`: the line has not ended yet, as that of a prompt or a progress bar. A later line of its stream that
    says `replaces` stands for it; a page that is read after that does not hold the partial one any more.
    """

    at: str
    level: str
    stream: str
    logger: str | None = None
    message: str
    attempt: int
    partial: bool = False
    replaces: bool = False


class ReplayRequest(Strict):
    """What differs from the run that is replayed; what is left out is taken from it.

    `version`: default the project's current deployment. `from_checkpoint`: checkpoints up to and including
    this one are copied to the new run, which so goes on after it.
    """

    payload: dict[str, Json] | None = None
    version: str | None = None
    from_checkpoint: str | None = Field(None, max_length=512)


class RunFilter(Strict):
    """Which runs are meant: those that fit every condition given. At least one is wanted."""

    runs: list[str] = Field(default_factory=list, max_length=1000)
    status: list[RunStatus] = Field(default_factory=list)
    task: str | None = None
    project: str | None = None
    tags: list[str] = Field(default_factory=list, max_length=32)
    #: A time in ISO 8601, or how long ago.
    since: str | None = None
    dead_letter: bool = False


class BulkRequest(Strict):
    """What to do with many runs, newest first: `limit` of them in one request, the others from `next` on.

    `version` is for replays. `dry_run`: only say which runs are meant.
    """

    filter: RunFilter
    version: str | None = None
    cursor: str | None = None
    limit: int = Field(100, ge=1, le=1000)
    dry_run: bool = False


class BulkItem(BaseModel):
    """What became of one of them: its status, the run that replays it, or why nothing was done."""

    run: str
    task: str
    status: RunStatus
    replay: str | None = None
    problem: str | None = None


class BulkAnswer(BaseModel):
    items: list[BulkItem]
    next: str | None = None


class RunPage(BaseModel):
    """Newest first; `payload` and `result` are left out of the items. `next` is null on the last page."""

    items: list[Run]
    next: str | None = None


class BatchAnswer(BaseModel):
    """The runs of a batch, in the order of its items; `payload` and `result` are left out of them."""

    items: list[Run]
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

    run: str
    status: RunStatus
    reason: WhyReason
    message: str
    queue: str
    concurrency_key: str | None = None
    until: str | None = None
    limit: int | None = None
    occupied: int | None = None
    position: int | None = None
    takes_turns_with: int | None = None


class CheckpointPage(BaseModel):
    items: list[Checkpoint]
    next: str | None = None


class AttemptPage(BaseModel):
    items: list[Attempt]
    next: str | None = None


class LogPage(BaseModel):
    """`next` continues after the last line; null when there is no more now.

    `last` is where the lines end that there are: given as `after` later, it brings those that have come since.
    """

    items: list[LogLine]
    next: str | None = None
    last: str | None = None
