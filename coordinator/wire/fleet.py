"""What a runner and the coordinator say to each other: claims, heartbeats, builds, the pool."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from coordinator.wire.basics import Json, RunStatus
from coordinator.wire.problems import Problem
from coordinator.wire.runs import ErrorBody, WaitKind, WaitState


class TaskLimits(BaseModel):
    """What the container of an attempt gets: the key of the pool, and the caps."""

    memory: int
    cpu: float
    timeout: float
    #: Seconds beyond `timeout` that the attempt has been given.
    extended: float = 0.0
    #: What is left of the run's whole time, in seconds; extensions do not reach beyond it.
    total_left: float | None = None
    warm: bool
    network: str | list[str] = "none"
    mounts: dict[str, str] = Field(default_factory=dict)
    trust: str = "project"
    start: Literal["auto", "fork", "fresh"] = "auto"
    #: Processes and threads; None: the host's number.
    pids: int | None = None
    #: Bytes of each scratch file system; None: half of the memory.
    scratch: int | None = None


class StoredValue(BaseModel):
    key: str
    value: Json


class ChildResult(BaseModel):
    """How a run that was waited for has ended. `omitted`: too large to be sent unasked; ask for it by its index."""

    run: str
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
    left: float | None = None
    value: Json = None
    id: str | None = None
    url: str | None = None
    runs: list[str] | None = None
    children: list[ChildResult] | None = None


class StoredWait(BaseModel):
    """A wait that is over, with what it was asked for as; `answer` where it is sent along unasked."""

    key: str
    kind: WaitKind
    name: str | None = None
    answer: WaitAnswer | None = None


class Assignment(BaseModel):
    """A claimed run: all that the runner and the container need, and the right to write for it."""

    attempt: str
    token: int
    secret: str
    run: str
    number: int
    project: str
    task: str
    version: str
    deployment: str
    image: str
    payload: Json
    #: Earlier results, preloaded; where `checkpoints_complete` is false the container asks for the rest.
    checkpoints: list[StoredValue] = Field(default_factory=list)
    checkpoints_complete: bool = True
    waits: list[StoredWait] = Field(default_factory=list)
    limits: TaskLimits
    tags: list[str] = Field(default_factory=list)
    trace_id: str
    #: Seconds from the answer until the lease runs out, by the database's clock.
    lease: float


class Build(BaseModel):
    """A deployment whose image the runner is to build; the source is at GET builds/{deployment}/source."""

    deployment: str
    token: int
    project: str
    version: str
    lease: float


class Share(BaseModel):
    """What the runs of one project may hold of a host at a time, once more than one project is deployed."""

    #: Bytes.
    memory: int
    slots: int

    @classmethod
    def usual(cls, memory: int, slots: int) -> Share:
        """Where nobody says otherwise: three quarters of what the host gives, so that nobody can take all of it."""
        return cls(memory=memory * 3 // 4, slots=max(1, slots * 3 // 4))


class Shares(BaseModel):
    """The shares that the policy of a host gives to projects."""

    usual: Share
    projects: dict[str, Share] = Field(default_factory=dict)


class ClaimRequest(BaseModel):
    """What the runner's host gives in all; the coordinator takes off what it knows to be live there.

    Sending the whole and not the rest keeps a held poll right when a run ends meanwhile.
    """

    memory: int
    slots: int
    builds: int = 0
    #: At most this many assignments in the answer.
    most: int = 1
    timeout: float = 25.0


class ClaimResponse(BaseModel):
    assignments: list[Assignment] = Field(default_factory=list)
    builds: list[Build] = Field(default_factory=list)


class Held(BaseModel):
    """Something a runner believes it holds a lease on: an attempt's or a deployment's id, and the token."""

    id: str
    token: int


class PoolEntry(BaseModel):
    container: str
    project: str
    image: str
    state: Literal["starting", "idle", "busy", "leaving"]
    memory: int
    runs: int
    age: float
    attempt: str | None = None
    task: str | None = None


class RunnerState(BaseModel):
    """A live runner as `GET /pool` lists it."""

    runner: str
    memory: int
    slots: int
    task_memory: int | None
    seen_at: str
    containers: list[PoolEntry]


class PoolPage(BaseModel):
    items: list[RunnerState]
    next: str | None = None


class Heartbeat(BaseModel):
    attempts: list[Held] = Field(default_factory=list)
    builds: list[Held] = Field(default_factory=list)
    pool: list[PoolEntry] = Field(default_factory=list)
    memory: int
    slots: int
    #: The largest memory one task may ask for on this host.
    task_memory: int
    #: None: the usual ones.
    shares: Shares | None = None


class HeldImages(BaseModel):
    """The images that a runner has built and still has."""

    images: list[str] = Field(max_length=10_000)


class RemovableImages(BaseModel):
    """Those of them that no version needs any more."""

    remove: list[str]


class HeartbeatReply(BaseModel):
    """`lost`: ids whose lease is gone; whatever still runs for them must be ended."""

    lease: float
    lost: list[str] = Field(default_factory=list)


class CommandsRequest(BaseModel):
    """A long poll for what the coordinator wants of live attempts; `known` is not said again."""

    known: list[str] = Field(default_factory=list)
    timeout: float = 25.0


class Cancel(BaseModel):
    attempt: str
    reason: Literal["canceled"] = "canceled"


class CommandsReply(BaseModel):
    cancels: list[Cancel] = Field(default_factory=list)


class AdoptReply(BaseModel):
    """Every live attempt of a runner, for a runner that has just started again."""

    assignments: list[Assignment] = Field(default_factory=list)


class BuildLog(BaseModel):
    token: int
    lines: list[str]


class BuildDone(BaseModel):
    token: int
    image: str
    #: The task index read inside the image: `{sdk, python, tasks: [...]}`.
    index: dict[str, Json]


class BuildFailed(BaseModel):
    token: int
    error: Problem
