"""The time of one run: as a tree of spans, and as a ledger."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from coordinator.wire.basics import BaseModel, Bytes, Cause, Name, Number, RunStatus, Start, Text, Whole, Word
from coordinator.wire.kept import WaitKind
from coordinator.wire.pool import Whose

SpanKind = Literal[
    "run",
    "delayed",
    "queued",
    "attempt",
    "placed",
    "started",
    "imported",
    "handed_over",
    "ran",
    "reported",
    "back_off",
    "checkpoint",
    "wait",
    "child",
]


class SpanAttempt(BaseModel):
    """What is known of an attempt besides its times; as of `GET /runs/{id}/attempts`."""

    id: Name
    runner: Name
    start: Start | None = None
    cause: Cause | None = None
    evicted_by: Whose | None = None
    container: Name | None = None
    container_run: Whole | None = None
    exit_code: Whole | None = None


class SpanWait(BaseModel):
    """`about`: the name of the event or the task; `until`: when a pending one is over by itself."""

    kind: WaitKind
    about: Name | None = None
    until: Word | None = None


class SpanChild(BaseModel):
    """A run that this one has triggered, by the trigger or wait `key`. The times are its own: its span is cut at
    the end of this run.
    """

    id: Name
    key: Name | None = None
    detached: bool = False
    created_at: Word
    started_at: Word | None = None
    finished_at: Word | None = None


class Span(BaseModel):
    """A part of the run's time, within that of its `parent` (null for the first, which is the run itself).

    `name`: the task of a run, the key of a checkpoint or wait, else the kind in words. `ended_at` is null while it
    lasts. `begin_ms` and `end_ms` count from the making of the run; an open span's end is now. `status`: of a run,
    an attempt or a wait. `attempt`: the number of the one that it is of, or leads to.
    """

    id: Word
    parent: Word | None = None
    kind: SpanKind
    name: Name
    began_at: Word
    ended_at: Word | None = None
    begin_ms: Number
    end_ms: Number
    status: Word | None = None
    attempt: Whole | None = None
    size_bytes: Bytes | None = None
    of_attempt: SpanAttempt | None = None
    of_wait: SpanWait | None = None
    of_child: SpanChild | None = None


class HeldInLine(BaseModel):
    """`reason`: as of `why`; `unseen` where nobody has looked meanwhile, as in a wait of a moment."""

    reason: Word
    ms: Number


class Ledger(BaseModel):
    """Where the run's time went, in milliseconds, added up over its attempts: the parts are `total_ms` together.

    `delayed`: before it might be claimed the first time; `queued`: from then, and after each wait and retry;
    `placed` to `handed_over` and `reported` as an attempt's phases; `ran`: user code; `waiting`: suspended, with no
    container; `back_off`: between a failed attempt and the next; `other`: what nobody has seen.
    """

    total_ms: Number
    delayed_ms: Number
    queued_ms: Number
    placed_ms: Number
    started_ms: Number
    imported_ms: Number
    handed_over_ms: Number
    ran_ms: Number
    waiting_ms: Number
    back_off_ms: Number
    reported_ms: Number
    other_ms: Number


class LeftOut(BaseModel):
    """How many of each there are beyond the latest ones that are shown: counted to 10,000."""

    attempts: Whole = 0
    checkpoints: Whole = 0
    waits: Whole = 0
    children: Whole = 0


class Trace(BaseModel):
    """`spans`: parents before what is in them, else by their beginnings. `now`: when it was read. `queued_by`: what
    held it in line; its parts are the ledger's `queued_ms` together, the largest first.
    """

    run: Name
    task: Text
    project: Name
    status: RunStatus
    trace_id: Name
    now: Word
    ledger: Ledger
    queued_by: Annotated[list[HeldInLine], Field(max_length=20)] = Field(default_factory=list)
    spans: Annotated[list[Span], Field(max_length=5000)]
    left_out: LeftOut = Field(default_factory=LeftOut)
