"""The pool as it is told: how an attempt came to its container, what containers there are, which have left."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from coordinator.wire.basics import (
    MAX_ITEMS,
    BaseModel,
    Bytes,
    Cause,
    Count,
    Name,
    Number,
    Seconds,
    Start,
    Whole,
    Word,
)

#: Seconds of one slot of StartSlot: runners count so, and what is shown is cut so.
START_SLOT = 300

#: Of a container's runs, how many of the last ones are told with their memory.
MAX_SAMPLES = 32

#: Why a container left: for one whose memory or place another had, having had its `runs` or its `age`, because of
#: what a run left in it (`unclean`), because it `grew`, `died` by itself or was `ended` with its run, could not be
#: started (`failed`), was for one run only (`not_kept`), was idle too long (`expired`), of a version that another
#: has taken the place of (`superseded`), nobody waited for it any more (`unwanted`), or its runner ended
#: (`drained`).
Leaving = Literal[
    "evicted",
    "runs",
    "age",
    "unclean",
    "grew",
    "died",
    "ended",
    "failed",
    "not_kept",
    "expired",
    "superseded",
    "unwanted",
    "drained",
]


class Whose(BaseModel):
    """A task of a project."""

    project: Name
    task: Name


class Placing(BaseModel):
    """How an attempt came to its container, by its runner's clock.

    `seconds`: from the claim until the container was bound to it. `starting`: of a container that is being started,
    since when it is, at the moment this is said. `number`: the how-manieth run of the container it is. `cause`: why
    it had to be started; `evicted_by`: whose run the last one of its kind had left for.
    """

    container: Name
    seconds: Seconds
    starting: Seconds = 0.0
    number: Count = 1
    cause: Cause | None = None
    evicted_by: Whose | None = None


class PoolEntry(BaseModel):
    """A container. `age` in seconds; `used`: bytes that it held after its last run; `worth`: of an idle one, its H:
    the lowest leaves first. `prepared`: started for nobody, and not used yet.
    """

    container: Name
    project: Name
    image: Name
    state: Literal["starting", "idle", "busy", "leaving"]
    memory: Bytes
    runs: Whole
    age: Number
    attempt: Name | None = None
    task: Name | None = None
    used: Bytes | None = None
    worth: Number | None = None
    prepared: bool = False


class Sample(BaseModel):
    """Memory of one run, in bytes: the most that it took, and what the container held after it."""

    peak: Bytes | None = None
    after: Bytes | None = None


Samples = Annotated[list[Sample], Field(max_length=MAX_SAMPLES)]


class Left(BaseModel):
    """A container that has left.

    `task`: of its last run, or what it was prepared for. `worth`: its H, where it was idle. `memory_runs`: of its
    last runs, the oldest first.
    """

    container: Name
    project: Name
    image: Name
    memory: Bytes
    why: Leaving
    #: Whose run or container it left for; in public null too where that is not for this key to know.
    by: Whose | None = None
    runs: Count
    task: Name | None = None
    worth: Number | None = None
    memory_runs: Samples = Field(default_factory=list)


class Life(Left):
    """As its runner tells it. `lived`: seconds from the wish for it until it left; `ago`: seconds since then."""

    lived: Seconds
    ago: Seconds


class StartCount(BaseModel):
    project: Name
    start: Start
    cause: Cause | None = None
    count: Count


class StartSlot(BaseModel):
    """How runs of a runner have begun in a few minutes: all that is known by now, so that it may be said again.

    `slot`: its name, of this runner's process and time. `ago`: seconds since it began.
    """

    slot: Name
    ago: Seconds
    counts: Annotated[list[StartCount], Field(max_length=10_000)]


# ---------------------------------------------------------------- in public


class RunnerState(BaseModel):
    """A live runner as `GET /pool` lists it; `used`: bytes that its containers may take together."""

    runner: Name
    memory: Bytes
    slots: Whole
    task_memory: Bytes | None
    seen_at: Word
    used: Bytes = 0
    containers: Annotated[list[PoolEntry], Field(max_length=MAX_ITEMS)]


class LifeShown(Left):
    """A container that has left, as `GET /pool` lists it."""

    runner: Name
    began_at: Word
    left_at: Word


class StartFigures(BaseModel):
    """How runs began: `hits`, those that had a container that stood ready or came free, as a part of `runs`.

    Null where there was none. `causes`: of the cold ones, how many for each.
    """

    runs: Whole = 0
    warm: Whole = 0
    stem: Whole = 0
    waited: Whole = 0
    cold: Whole = 0
    hits: Number | None = None
    causes: dict[Cause, Whole] = Field(default_factory=dict, max_length=32)


class PoolPage(BaseModel):
    """`hour` and `day`: of the last 60 minutes and 24 hours, to within a few minutes. `left`: the newest first."""

    items: Annotated[list[RunnerState], Field(max_length=MAX_ITEMS)]
    hour: StartFigures = Field(default_factory=StartFigures)
    day: StartFigures = Field(default_factory=StartFigures)
    left: Annotated[list[LifeShown], Field(max_length=1000)] = Field(default_factory=list)
    next: Name | None = None


class WhatIfPoint(BaseModel):
    """What the day's starts would have been with so many bytes. `mean_delay_ms`: from when a run was claimed to its
    first line. `dropped`: runs that would have waited more than an hour, or that never fit.
    """

    memory: Bytes
    cold_ratio: Number
    waited_ratio: Number
    mean_delay_ms: Number
    p99_delay_ms: Number
    dropped: Whole


class WhatIf(BaseModel):
    """The starts of the last 24 hours replayed by the rule of the pool, for other sizes of memory.

    `since`: how far back it was looked; `cut_short`: less than a day, because there were more starts than are
    read. `memory`: what the live hosts give together; null without one. `cold_ratio`, `mean_delay_ms`: as it was,
    null where nothing began.
    """

    made_at: Word
    since: Word
    cut_short: bool
    memory: Bytes | None
    runs: Whole
    cold_ratio: Number | None
    mean_delay_ms: Number | None
    points: Annotated[list[WhatIfPoint], Field(max_length=32)]
