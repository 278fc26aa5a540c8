"""Runs over the public API: triggered, listed, replayed, and what is kept of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from coordinator.wire.basics import (
    MAX_ITEMS,
    BaseModel,
    Bytes,
    Cause,
    Count,
    Duration,
    Json,
    Memory,
    Name,
    Names,
    Number,
    Object,
    Reason,
    RunStatus,
    Start,
    Strict,
    Text,
    Whole,
    Word,
)
from coordinator.wire.pool import Whose


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


class ErrorBody(BaseModel):
    type: Text
    message: Text
    traceback: Text | None = None
    reason: Reason = "exception"


class ErrorShown(ErrorBody):
    """`fingerprint`: that of all errors of the same type out of the same function; null where it is older than
    those are.
    """

    fingerprint: Word | None = None


class Phases(BaseModel):
    """Where an attempt's time went, in milliseconds; null where it has not come to that, or nobody has seen it.

    Claimable → `queued` → claimed → `placed` → bound to a container → `started` → its process 1 connected →
    `imported` → the project's modules imported → `handed_over` → the first line of user code → `ran` → its last →
    `reported` → the end committed.
    """

    queued_ms: Number | None = None
    placed_ms: Number | None = None
    started_ms: Number | None = None
    imported_ms: Number | None = None
    handed_over_ms: Number | None = None
    ran_ms: Number | None = None
    reported_ms: Number | None = None


class Timings(BaseModel):
    """Of the latest attempt. `cause`: why it began cold; `evicted_by`: whose run the container had left for, null
    too where that is not for this key to know. `phases` only of a single run.
    """

    queued_ms: Number | None = None
    start_ms: Number | None = None
    run_ms: Number | None = None
    start: Start | None = None
    cause: Cause | None = None
    evicted_by: Whose | None = None
    phases: Phases | None = None


class Usage(BaseModel):
    peak_memory_bytes: Bytes | None = None
    memory_limit_bytes: Bytes | None = None


class MemoryCurve(BaseModel):
    """The most memory that the container had in each interval of an attempt, in bytes, as it says itself."""

    interval_ms: Whole
    points: Annotated[list[Bytes], Field(max_length=120)]


class MemoryProcess(BaseModel):
    """`name`: what the process calls itself; `run` is the run's own, `zygote` the one with the imports."""

    pid: Whole
    name: Word
    memory_bytes: Bytes


class MemoryHeld(BaseModel):
    """Who held the memory when the container was last near its limit (80 %), as it says itself.

    `at_ms`: since the attempt began; `scratch_bytes`: what stood in /tmp and the other scratch folders, which is
    memory too; `processes`: the largest, by resident memory; `killed`: the kernel had ended one for want of memory.
    """

    at_ms: Number
    memory_bytes: Bytes
    scratch_bytes: Bytes
    processes: Annotated[list[MemoryProcess], Field(max_length=5)]
    killed: bool = False


class AttemptUsage(Usage):
    """`curve` and `held` are reported by the container: null of what took a moment, and where it can't tell; `held`
    of what never came near its limit too.
    """

    curve: MemoryCurve | None = None
    held: MemoryHeld | None = None


class LogCounts(BaseModel):
    """How many lines of each level a log has; critical ones are errors."""

    debug: Count = 0
    info: Count = 0
    warning: Count = 0
    error: Count = 0


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


class EgressHost(BaseModel):
    """What an attempt has reached at one host and port; `sent` and `received` are bytes, as they were on the wire.

    `seconds`: those that its connections were open, added up. `reason`: why the last one of `refused` was. `port` 0
    stands for all hosts beyond the hundred that are counted by themselves.
    """

    host: Name
    port: Annotated[int, Field(ge=0, le=65535)]
    connections: Count = 0
    sent: Bytes = 0
    received: Bytes = 0
    seconds: Number = 0.0
    refused: Count = 0
    reason: Annotated[str, Field(max_length=1000)] | None = None


EgressHosts = Annotated[list[EgressHost], Field(max_length=101)]


class Attempt(BaseModel):
    """One execution of a run, as `GET /runs/{id}/attempts` lists it."""

    id: Name
    number: Whole
    runner: Name
    status: Text
    start: Start | None = None
    #: As of `timings`.
    cause: Cause | None = None
    evicted_by: Whose | None = None
    phases: Phases = Field(default_factory=Phases)
    #: Which it ran in, and the how-manieth run of that it was.
    container: Name | None = None
    container_run: Whole | None = None
    claimed_at: Word
    started_at: Word | None = None
    finished_at: Word | None = None
    exit_code: Whole | None = None
    error: ErrorShown | None = None
    usage: AttemptUsage = Field(default_factory=AttemptUsage)
    logs: LogCounts = Field(default_factory=LogCounts)
    #: What it has reached through its sidecar.
    egress: EgressHosts = Field(default_factory=list)


WaitKind = Literal["sleep", "until", "event", "token", "trigger", "run", "batch_trigger", "batch"]
WaitState = Literal["pending", "done", "timed_out", "closed"]


class TokenCompleted(BaseModel):
    completed: Literal[True]


class Checkpoint(BaseModel):
    """A result that a run has stored, or a wait of it (`kind` says which).

    `state` of a wait: `pending`, `done`, `timed_out`, or `closed` because the run ended before. `until`: when a
    pending one is over by itself. `name`: the event or task it is about; `runs`: the runs it is about.
    `begun_at` of a result: when its computation began, by what the container has measured; null where it did not.
    """

    key: Name
    kind: Literal["checkpoint"] | WaitKind = "checkpoint"
    state: WaitState = "done"
    name: Name | None = None
    until: Word | None = None
    runs: Names | None = None
    value: Json
    attempt: Whole
    begun_at: Word | None = None
    created_at: Word
    size_bytes: Bytes


class LogLine(BaseModel):
    """`seq` rises with each line of an attempt, and has gaps where lines were replaced: with the attempt it
    names the line, for good.

    `partial`: the line has not ended yet, as that of a prompt or a progress bar. A later line of its stream that
    says `replaces` stands for it; a page that is read after that does not hold the partial one any more.
    """

    at: Word
    level: Text
    stream: Text
    logger: Text | None = None
    message: Text
    attempt: Whole
    seq: Whole
    partial: bool = False
    replaces: bool = False


class LineOfRun(LogLine):
    """A line of a log that holds those of several runs."""

    run: Name


class LoggedRun(BaseModel):
    """A run whose lines a log with children holds."""

    run: Name
    task: Name
    parent: Name | None
    status: RunStatus


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
    tags: list[Name] = Field(default_factory=list, max_length=32)
    #: A time in ISO 8601, or how long ago.
    since: Text | None = None
    dead_letter: bool = False
    #: The fingerprint of what they ended with.
    error: Name | None = None


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
    """Newest first; `payload` and `result` are left out of the items. `next` is null on the last page."""

    items: Annotated[list[Run], Field(max_length=MAX_ITEMS)]
    next: Name | None = None


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


class CheckpointPage(BaseModel):
    items: Annotated[list[Checkpoint], Field(max_length=MAX_ITEMS)]
    next: Name | None = None


class AttemptPage(BaseModel):
    items: Annotated[list[Attempt], Field(max_length=MAX_ITEMS)]
    next: Name | None = None


class LogPage(BaseModel):
    """`next` continues after the last line; null when there is no more now.

    `last` is where the lines end that there are: given as `after` later, it brings those that have come since.
    `looked_at`: how many lines were read for this page. `cut_short`: it has fewer than were asked for, perhaps
    none, because it had looked at 20,000, or for 60 ms; `next` goes on. With children `runs` are those whose lines
    it holds, and `left_out` says that there are more below the run.
    """

    items: Annotated[list[LineOfRun | LogLine], Field(max_length=MAX_ITEMS)]
    next: Annotated[str, Field(max_length=4096)] | None = None
    last: Annotated[str, Field(max_length=4096)] | None = None
    looked_at: Count = 0
    cut_short: bool = False
    runs: Annotated[list[LoggedRun], Field(max_length=64)] | None = None
    left_out: bool = False
