"""What a runner and the coordinator say to each other: claims, heartbeats, builds, the pool."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from coordinator.wire.basics import (
    MAX_ITEMS,
    BaseModel,
    Bytes,
    Isolation,
    Json,
    Name,
    Names,
    Number,
    Object,
    RunStatus,
    Seconds,
    Text,
    Texts,
    Whole,
)
from coordinator.wire.kept import ErrorBody, WaitKind, WaitState
from coordinator.wire.pool import Life, PoolEntry, StartSlot
from coordinator.wire.problems import Problem


class TaskLimits(BaseModel):
    """What the container of an attempt gets: the key of the pool, and the caps."""

    memory: Bytes
    cpu: Number
    timeout: Number
    #: Seconds beyond `timeout` that the attempt has been given.
    extended: Number = 0.0
    #: What is left of the run's whole time, in seconds; extensions do not reach beyond it.
    total_left: Number | None = None
    warm: bool
    network: Text | Names = "none"
    mounts: Texts = Field(default_factory=dict)
    trust: Text = "project"
    #: "inline": in a process that is kept for such runs; "container" is what `warm` says.
    isolation: Isolation = "process"
    start: Literal["auto", "fork", "fresh"] = "auto"
    #: Processes and threads; None: the host's number.
    pids: Whole | None = None
    #: Bytes of each scratch file system; None: half of the memory.
    scratch: Bytes | None = None


class StoredValue(BaseModel):
    key: Name
    value: Json


class ChildResult(BaseModel):
    """How a run that was waited for has ended. `omitted`: too large to be sent unasked; ask for it by its index."""

    run: Name
    status: RunStatus
    result: Json = None
    error: ErrorBody | None = None
    omitted: bool = False


class WaitAnswer(BaseModel):
    """What became of a wait. `left`: seconds until a pending one is over by itself. `id` and `url`: of a token.

    `value`: what a token was completed with, or an event's payload. `runs`: the runs that it has triggered.
    `children`: how they ended, of a wait that is done.
    """

    state: WaitState
    left: Number | None = None
    value: Json = None
    id: Name | None = None
    url: Text | None = None
    runs: Names | None = None
    children: Annotated[list[ChildResult], Field(max_length=MAX_ITEMS)] | None = None


class StoredWait(BaseModel):
    """A wait that is over, with what it was asked for as; `answer` where it is sent along unasked."""

    key: Name
    kind: WaitKind
    name: Name | None = None
    answer: WaitAnswer | None = None


class Assignment(BaseModel):
    """A claimed run: all that the runner and the container need, and the right to write for it."""

    attempt: Name
    token: Whole
    secret: Name
    run: Name
    number: Whole
    project: Name
    task: Name
    version: Name
    deployment: Name
    image: Name
    payload: Json
    #: Earlier results, preloaded; where `checkpoints_complete` is false the container asks for the rest.
    checkpoints: Annotated[list[StoredValue], Field(max_length=MAX_ITEMS)] = Field(default_factory=list)
    checkpoints_complete: bool = True
    waits: Annotated[list[StoredWait], Field(max_length=MAX_ITEMS)] = Field(default_factory=list)
    limits: TaskLimits
    tags: Names = Field(default_factory=list)
    #: The names of the secrets that its process is given.
    secrets: Names = Field(default_factory=list)
    trace_id: Name
    #: Seconds from the answer until the lease runs out, by the database's clock.
    lease: Number


class Build(BaseModel):
    """A deployment whose image the runner is to build; the source is at GET builds/{deployment}/source."""

    deployment: Name
    token: Whole
    project: Name
    version: Name
    lease: Number


class Share(BaseModel):
    """What the runs of one project may hold of a host at a time, once more than one project is deployed."""

    memory: Bytes
    slots: Whole

    @classmethod
    def usual(cls, memory: int, slots: int) -> Share:
        """Where nobody says otherwise: three quarters of what the host gives, so that nobody can take all of it."""
        return cls(memory=memory * 3 // 4, slots=max(1, slots * 3 // 4))


class Shares(BaseModel):
    """The shares that the policy of a host gives to projects."""

    usual: Share
    projects: Annotated[dict[Name, Share], Field(max_length=10_000)] = Field(default_factory=dict)


class BuildShares(BaseModel):
    """How many image builds of one project a runner has at a time, whoever else waits."""

    usual: Whole = 1
    projects: Annotated[dict[Name, Whole], Field(max_length=10_000)] = Field(default_factory=dict)

    def of(self, project: str) -> int:
        return max(1, self.projects.get(project, self.usual))


class ClaimRequest(BaseModel):
    """What the runner's host gives in all; the coordinator takes off what it knows to be live there.

    Sending the whole and not the rest keeps a held poll right when a run ends meanwhile.
    """

    memory: Bytes
    slots: Whole
    builds: Whole = 0
    build_shares: BuildShares = Field(default_factory=BuildShares)
    #: At most this many assignments in the answer.
    most: Whole = 1
    timeout: Number = 25.0


class ClaimResponse(BaseModel):
    assignments: Annotated[list[Assignment], Field(max_length=MAX_ITEMS)] = Field(default_factory=list)
    builds: Annotated[list[Build], Field(max_length=MAX_ITEMS)] = Field(default_factory=list)


class Held(BaseModel):
    """Something a runner believes it holds a lease on: an attempt's or a deployment's id, and the token."""

    id: Name
    token: Whole


class Heartbeat(BaseModel):
    attempts: Annotated[list[Held], Field(max_length=10_000)] = Field(default_factory=list)
    builds: Annotated[list[Held], Field(max_length=10_000)] = Field(default_factory=list)
    #: Its containers: all of them, or with a `base` those that differ from what was told as that state, and the
    #: names of those that are `gone`. `state` is what it is called with that.
    pool: Annotated[list[PoolEntry], Field(max_length=10_000)] = Field(default_factory=list)
    gone: Annotated[list[Name], Field(max_length=10_000)] = Field(default_factory=list)
    base: Name | None = None
    state: Name = ""
    #: Containers that have left, and how runs have begun: what was not answered yet. It may be said again.
    left: Annotated[list[Life], Field(max_length=1000)] = Field(default_factory=list)
    starts: Annotated[list[StartSlot], Field(max_length=1000)] = Field(default_factory=list)
    memory: Bytes
    slots: Whole
    #: The largest memory one task may ask for on this host.
    task_memory: Bytes
    #: None: the usual ones.
    shares: Shares | None = None


class HeldImages(BaseModel):
    """The images that a runner has built and still has."""

    images: list[Name] = Field(max_length=10_000)


class RemovableImages(BaseModel):
    """Those of them that no version needs any more."""

    remove: Names


class Wanted(BaseModel):
    """A container that had better stand ready for a task: after a deploy, or before a schedule's tick.

    `id`: of the wish, which is met once. `within`: seconds for which it is one. `here`: also where the task has not
    run lately.
    """

    id: Name
    why: Literal["deploy", "tick"]
    project: Name
    task: Name
    image: Name
    limits: TaskLimits
    within: Seconds
    here: bool = False


class HeartbeatReply(BaseModel):
    """`lost`: ids whose lease is gone; whatever still runs for them must be ended.

    `pool`: the state of its containers that is known now; where that is not what it has told, it tells all of them.
    """

    lease: Number
    lost: Names = Field(default_factory=list)
    pool: Name | None = None
    wanted: Annotated[list[Wanted], Field(max_length=100)] = Field(default_factory=list)


class Enrol(BaseModel):
    """A runner's wish for a key of its own, which it has made: its SHA-256, hexadecimal."""

    hash: str = Field(min_length=64, max_length=64, pattern=r"^[0-9a-f]{64}$")


class Enrolled(BaseModel):
    """`key`: the name of the runner's own key; null where the key it came with is its own already."""

    key: Name | None = None


class CommandsRequest(BaseModel):
    """A long poll for what the coordinator wants of live attempts; `known` is not said again."""

    known: list[Name] = Field(default_factory=list, max_length=10_000)
    timeout: Number = 25.0


class Cancel(BaseModel):
    attempt: Name
    reason: Literal["canceled"] = "canceled"


class CommandsReply(BaseModel):
    cancels: Annotated[list[Cancel], Field(max_length=MAX_ITEMS)] = Field(default_factory=list)


class AdoptReply(BaseModel):
    """Every live attempt of a runner, for a runner that has just started again."""

    assignments: Annotated[list[Assignment], Field(max_length=MAX_ITEMS)] = Field(default_factory=list)


class BuildLog(BaseModel):
    token: Whole
    lines: Annotated[list[Text], Field(max_length=10_000)]


class BuildDone(BaseModel):
    token: Whole
    image: Name
    #: The task index read inside the image: `{sdk, python, tasks: [...]}`.
    index: Object


class BuildFailed(BaseModel):
    token: Whole
    error: Problem
