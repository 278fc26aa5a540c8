"""What is written for an attempt, by its sidecar and of its end by its runner."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from coordinator.wire.basics import Json, Outcome, Reason, Start
from coordinator.wire.runs import ErrorBody, WaitKind


class Lost(BaseModel):
    """The runner's account of an attempt that ended without saying so itself.

    `reason`: `out_of_memory`, `timeout`, `canceled` (ended by the runner), `rejected` (the host's policy
    or image refused it), `exception` (user code ended the container) or `lost` (the platform's fault:
    does not consume the user's retries). `missing_image`: the attempt never began, because this image is not on
    the host; it is built again, and the run waits for that.
    """

    token: int
    reason: Reason
    message: str
    exit_code: int | None = None
    peak_memory_bytes: int | None = None
    missing_image: str | None = Field(None, max_length=512)


class Started(BaseModel):
    token: int
    start: Start


class CheckpointGet(BaseModel):
    token: int
    key: str


class CheckpointValue(BaseModel):
    found: bool
    value: Json = None


class CheckpointPut(BaseModel):
    token: int
    key: str = Field(min_length=1, max_length=512)
    value: Json


class CheckpointStored(BaseModel):
    """`stored` is false where the run had this key: then `value` is the one that holds."""

    stored: bool
    value: Json = None


class WaitCall(BaseModel):
    """Asks for a wait: it is stored at the first call, and every later one with its key hears what became of it.

    `spec` by kind:

        sleep           seconds
        until           at: seconds since the epoch
        event           where: a filter or null; timeout: seconds or null   (`name` is the event)
        token           timeout
        trigger, run    payload, options: those of a trigger; detached      (`name` is the task)
        batch_trigger, batch    items: triggers, each with its payload; detached
        run             or: run: the id of a run that this one has triggered
    """

    token: int
    key: str = Field(min_length=1, max_length=512)
    kind: WaitKind
    name: str | None = Field(None, max_length=512)
    spec: dict[str, Json] = Field(default_factory=dict)


class WaitResultGet(BaseModel):
    token: int
    key: str
    index: int = Field(0, ge=0)


class AttemptLogLine(BaseModel):
    #: Rises by one for each line of an attempt; a line sent twice is kept once.
    seq: int
    at: float
    level: str
    stream: Literal["stdout", "stderr", "logging", "samovar"]
    logger: str | None = None
    message: str
    #: The line has not ended; one with a higher `seq` that `replaces` it says what it has become.
    partial: bool = False
    replaces: int | None = None


class AttemptLogs(BaseModel):
    token: int
    lines: list[AttemptLogLine]


class Report(BaseModel):
    token: int
    progress: dict[str, Json] | None = None
    metadata: dict[str, Json] | None = None


class Extend(BaseModel):
    """`seconds`: all that the attempt has asked for beyond its task's timeout, so that it may arrive twice."""

    token: int
    seconds: float = Field(gt=0)


class Retry(BaseModel):
    """What the exception said about trying again; the coordinator decides with the task's policy."""

    allowed: bool = True
    after: float | None = None


class Finish(BaseModel):
    token: int
    outcome: Outcome
    result: Json = None
    error: ErrorBody | None = None
    retry: Retry = Field(default_factory=Retry)
    #: Of the outcome `waiting`: the keys of the waits that the run is suspended over.
    waits: list[str] = Field(default_factory=list, max_length=10_000)
    lines: list[AttemptLogLine] = Field(default_factory=list)
    exit_code: int | None = None
    peak_memory_bytes: int | None = None
