"""What is kept of a run, as the public API shows it: errors, times, memory, attempts, checkpoints, log lines."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from coordinator.wire.basics import (
    MAX_ITEMS,
    BaseModel,
    Bytes,
    Cause,
    Count,
    Json,
    Name,
    Names,
    Number,
    Reason,
    RunStatus,
    Start,
    Text,
    Whole,
    Word,
)
from coordinator.wire.pool import Whose


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
