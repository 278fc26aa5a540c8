"""What is written for an attempt, by its sidecar and of its end by its runner."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from coordinator.wire.basics import (
    BaseModel,
    Bytes,
    ClampedMilliseconds,
    ClampedMoment,
    ClampedSeconds,
    Json,
    Name,
    Names,
    Object,
    Outcome,
    Reason,
    Start,
    Text,
    Whole,
    Word,
)
from coordinator.wire.kept import EgressHosts, ErrorBody, WaitKind
from coordinator.wire.pool import Placing

#: Bytes in which the points of a curve are counted; as in samovar.wire.
CURVE_UNIT = 64 * 1024


class Lost(BaseModel):
    """The runner's account of an attempt that ended without saying so itself.

    `reason`: `out_of_memory`, `timeout`, `canceled` (ended by the runner), `rejected` (the host's policy
    or image refused it), `exception` (user code ended the container) or `lost` (the platform's fault:
    does not consume the user's retries). `missing_image`: the attempt never began, because this image is not on
    the host; it is built again, and the run waits for that.
    """

    token: Whole
    reason: Reason
    message: Text
    exit_code: Whole | None = None
    peak_memory_bytes: Bytes | None = None
    missing_image: str | None = Field(None, max_length=512)
    #: Of one that had a container and never began: how it came to it.
    start: Start | None = None
    placing: Placing | None = None


class Started(BaseModel):
    """User code is about to run. `starting`: seconds until process 1 had connected, `importing`: from then until
    the modules were imported; both 0 where the container stood ready, null where nobody has seen it.
    """

    token: Whole
    start: Start
    placing: Placing | None = None
    starting: ClampedSeconds | None = None
    importing: ClampedSeconds | None = None


class JointItem(BaseModel):
    """What several attempts of a host write, in one call: the line before the body of each, which is another line.

    `waited`: seconds since it was asked for.
    """

    attempt: Name
    secret: Name
    action: Word
    waited: ClampedSeconds = 0.0


class JointAnswer(BaseModel):
    """The line before each body of the answer.

    `alone`: it is to be sent as a call of its own, since it, or the answer to it, would hold up the others.
    """

    status: int = Field(ge=100, le=599)
    alone: bool = False


class SecretsGet(BaseModel):
    token: Whole


class SecretValues(BaseModel):
    """What the process of a run is given, by name; `missing`: what its task names besides, and nobody has set."""

    values: dict[Name, Text] = Field(max_length=100)
    missing: Names = Field(default_factory=list)


class CheckpointGet(BaseModel):
    token: Whole
    key: Name


class CheckpointValue(BaseModel):
    found: bool
    value: Json = None


class CheckpointPut(BaseModel):
    """`took_ms`: what the container says of how long it was at it; null where it does not say."""

    token: Whole
    key: str = Field(min_length=1, max_length=512)
    value: Json
    took_ms: ClampedMilliseconds | None = None


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

    token: Whole
    key: str = Field(min_length=1, max_length=512)
    kind: WaitKind
    name: str | None = Field(None, max_length=512)
    spec: Object = Field(default_factory=dict)


class WaitResultGet(BaseModel):
    token: Whole
    key: Name
    index: int = Field(0, ge=0, le=10_000)


class AttemptLogLine(BaseModel):
    #: Rises by one for each line of an attempt; a line sent twice is kept once.
    seq: Whole
    at: ClampedMoment
    level: Text
    stream: Literal["stdout", "stderr", "logging", "samovar"]
    logger: Text | None = None
    message: Text
    #: The line has not ended; one with a higher `seq` that `replaces` it says what it has become.
    partial: bool = False
    replaces: Whole | None = None


class AttemptLogs(BaseModel):
    token: Whole
    lines: Annotated[list[AttemptLogLine], Field(max_length=10_000)]


class NearProcess(BaseModel):
    """A process of a container, by the name that it gives itself."""

    pid: int = Field(ge=0, le=2**31)
    name: str = Field(max_length=64)
    memory: Bytes


class NearLimit(BaseModel):
    """Who held the memory of a container when it was last near its limit, as the container tells it.

    `at_ms`: since the attempt began; `scratch`: bytes in its tmpfs, which count as memory and are of no process;
    `processes`: the largest, by resident memory; `killed`: the kernel had ended some of it.
    """

    at_ms: ClampedMilliseconds
    memory: Bytes
    scratch: Bytes
    processes: list[NearProcess] = Field(max_length=5)
    killed: bool = False


class Curve(BaseModel):
    """The memory of a container over an attempt's time, as the container tells it: of each interval the most that
    it had, in units of CURVE_UNIT bytes. At most 1 KiB of JSON, without `near`.
    """

    interval_ms: int = Field(ge=1, le=10**12)
    points: list[Annotated[int, Field(ge=0, le=9_999_999)]] = Field(min_length=1, max_length=120)
    near: NearLimit | None = None


class Report(BaseModel):
    token: Whole
    progress: Object | None = None
    metadata: Object | None = None
    curve: Curve | None = None


class AttemptEgress(BaseModel):
    """What the attempt has reached by way of the sidecar `boot`: the last that each of them sends counts."""

    token: Whole
    boot: Name = ""
    hosts: EgressHosts


class Extend(BaseModel):
    """`seconds`: all that the attempt has asked for beyond its task's timeout, so that it may arrive twice."""

    token: Whole
    seconds: ClampedSeconds = Field(gt=0)


class Retry(BaseModel):
    """What the exception said about trying again; the coordinator decides with the task's policy."""

    allowed: bool = True
    after: ClampedSeconds | None = None


class Finish(BaseModel):
    token: Whole
    outcome: Outcome
    result: Json = None
    error: ErrorBody | None = None
    retry: Retry = Field(default_factory=Retry)
    #: Of the outcome `waiting`: the keys of the waits that the run is suspended over.
    waits: list[Name] = Field(default_factory=list, max_length=10_000)
    lines: Annotated[list[AttemptLogLine], Field(max_length=10_000)] = Field(default_factory=list)
    exit_code: Whole | None = None
    peak_memory_bytes: Bytes | None = None
    curve: Curve | None = None
    #: Seconds from the container's word to this: until its output and its connections had come to their end.
    held: ClampedSeconds = 0.0
