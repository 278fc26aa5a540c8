"""The task index of a deployment, as it came out of the image: checked before anything believes it.

It was printed by a process that had imported the project's modules, so it is user input like any other.
"""

from __future__ import annotations

import functools
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from coordinator.foundation.errors import Invalid
from coordinator.foundation.limits import MAX_MEMORY, MIN_MEMORY
from coordinator.foundation.near import near
from coordinator.storage.values import encode_small
from coordinator.tasks import arguments, cron, ticks, vocabulary, where
from coordinator.tasks.retries import Policy
from coordinator.wire import EVENT_NAME, FieldProblem
from coordinator.wire.basics import MAX_SECONDS, Isolation, Name, Object, Text, Texts

_LARGEST_SCHEMA = 512 * 1024
#: Where so many are found, the rest of an index is not looked at.
_MOST_PROBLEMS = 50
#: What an event gives its tasks.
EVENT_ARGUMENTS = ("event", "event_id")
#: What a webhook gives its task.
WEBHOOK_ARGUMENTS = ("payload", "headers", "delivery_id", "query")


class RetryOptions(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    max_attempts: int = Field(1, ge=1, le=1000)
    factor: float = Field(2.0, ge=1, le=1000)
    min_delay: float = Field(1.0, ge=0, le=MAX_SECONDS)
    max_delay: float = Field(60.0, ge=0, le=MAX_SECONDS)
    jitter: bool = True
    oom_memory: int | None = Field(None, ge=MIN_MEMORY, le=MAX_MEMORY)

    def policy(self) -> Policy:
        return Policy(**self.model_dump())


class ScheduleOptions(BaseModel):
    model_config = ConfigDict(extra="ignore")

    cron: str = Field(max_length=1024)
    timezone: str = Field("UTC", max_length=128)
    catchup: Literal["skip", "all"] = "skip"


class EventOptions(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: str = Field(max_length=256, pattern=EVENT_NAME)
    where: Object | None = None


SecretName = Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
_Place = Annotated[str, Field(min_length=1, max_length=128)]


class ChallengeOptions(BaseModel):
    """Where a sender that first asks puts its challenge, and how it is answered: see sources/challenges.py."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field("own", max_length=32)
    #: None: any.
    method: Literal["GET", "POST"] | None = None
    # one of them: a parameter of the address, a header, or a dotted path in the JSON of the body
    query: _Place | None = None
    header: _Place | None = None
    field: _Place | None = None
    #: What stands beside it: only then it is a challenge.
    when: dict[_Place, Annotated[str, Field(max_length=128)]] = Field(default_factory=dict, max_length=8)
    #: Text, or a JSON object of the challenge and what is made of it.
    answer: Literal["text"] | Annotated[dict[_Place, Literal["challenge", "hmac"]], Field(max_length=16)] = "text"
    #: The secret that the sender has to name, and where.
    verify: SecretName | None = None
    verify_in: _Place | None = None
    #: The secret that the challenge is signed with, and how that is written.
    hmac: SecretName | None = None
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = Field("", max_length=32)

    @model_validator(mode="after")
    def _whole(self) -> ChallengeOptions:
        if sum(place is not None for place in (self.query, self.header, self.field)) != 1:
            raise ValueError("give one place: query, header or field")
        if (self.verify is None) != (self.verify_in is None):
            raise ValueError("verify and verify_in belong together")
        if self.hmac is None and self.answer != "text" and "hmac" in self.answer.values():
            raise ValueError("an answer with hmac needs the name of a secret for it")
        return self


class WebhookOptions(BaseModel):
    model_config = ConfigDict(extra="ignore")

    path: str = Field(max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*$")
    #: None: unsigned; it has to be said.
    secret: SecretName | None
    scheme: Literal["standard", "github", "stripe", "slack", "zoom", "x"] | None = None
    challenge: ChallengeOptions | None = None


class RateOptions(BaseModel):
    """`limit` runs in any `period` seconds."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    limit: int = Field(ge=1, le=100_000)
    period: float = Field(gt=0, le=31 * 86400)


class QueueOptions(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    concurrency: int | None = Field(None, ge=1, le=1_000_000)
    per_key: int | None = Field(None, ge=1, le=1_000_000)
    rate: RateOptions | None = None
    rate_excess: Literal["wait", "refuse"] = "wait"
    on_full: Literal["queue", "skip", "cancel_running", "keep_newest"] = "queue"


class TaskOptions(BaseModel):
    """Resolved by the SDK: durations in seconds, memory in bytes. Options of later SDKs are passed over."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    retry: RetryOptions = Field(default_factory=RetryOptions)
    memory: int = Field(ge=MIN_MEMORY, le=MAX_MEMORY)
    cpu: float = Field(gt=0, le=4096)
    timeout: float = Field(gt=0, le=MAX_SECONDS)
    ttl: float | None = Field(None, gt=0, le=MAX_SECONDS)
    priority: int = Field(0, ge=-(10**9), le=10**9)
    warm: bool = True
    network: Name | Annotated[list[Name], Field(max_length=100)] = "none"
    trust: Name = "project"
    secrets: list[SecretName] = Field(default_factory=list, max_length=100)
    mounts: Texts = Field(default_factory=dict, max_length=100)
    schedule: ScheduleOptions | None = None
    queue: QueueOptions | None = None
    concurrency_key: str | None = Field(None, min_length=1, max_length=512)
    webhook: WebhookOptions | None = None
    on_event: list[EventOptions] = Field(default_factory=list, max_length=50)
    total_timeout: float | None = Field(None, gt=0, le=MAX_SECONDS)
    on_failure: Name | None = None
    isolation: Isolation = "process"
    start: Literal["auto", "fork", "fresh"] = "auto"
    pids: int | None = Field(None, ge=16, le=32_768)
    #: Bytes of each scratch file system; None: half of the memory.
    scratch: int | None = Field(None, ge=1024**2, le=MAX_MEMORY)
    #: The size that memory and cpu come from, by its name on the host that built the deployment.
    machine: str | None = Field(None, max_length=64)

    @property
    def given_isolation(self) -> Isolation:
        """That of its runs: where its code is not trusted, none shares a process with another, whatever it says."""
        return "process" if self.trust == "untrusted" and self.isolation == "inline" else self.isolation

    @property
    def given_secrets(self) -> list[str]:
        """The names of the secrets that its runs get: none, where its code is not trusted, whatever it names."""
        return [] if self.trust == "untrusted" else self.secrets


def stored_options(text: str) -> TaskOptions:
    """The options of a deployment that is kept: a number of an earlier one that is out of range now is clamped."""
    try:
        return TaskOptions.model_validate_json(text)
    except ValidationError as error:
        options = json.loads(text)
        for problem in error.errors():
            limits = problem.get("ctx", {})
            bound = next((limits[word] for word in ("le", "ge", "lt", "gt") if word in limits), None)
            *path, last = problem["loc"]
            place = functools.reduce(lambda inner, name: inner[name], path, options)
            place[last] = MAX_SECONDS if bound in (None, 0) else bound
        return TaskOptions.model_validate(options)


class IndexedTask(BaseModel):
    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    id: str = Field(min_length=1, max_length=256, pattern=r"^[^/\s\x00]+$")
    module: Annotated[str, Field(max_length=4096)]
    name: Annotated[str, Field(max_length=4096)]
    doc: Text | None = None
    json_schema: Object = Field(alias="schema")
    options: Object
    #: The keys of its checkpoints as its source tells, `{}` for what is made while it runs; null: not known.
    checkpoints: list[Annotated[str, Field(max_length=4096)]] | None = Field(None, max_length=1000)


class TaskIndex(BaseModel):
    model_config = ConfigDict(extra="ignore")

    sdk: Name
    python: Name
    tasks: list[IndexedTask] = Field(min_length=1, max_length=2000)


def read_index(raw: dict[str, Any]) -> TaskIndex:
    """The checked index. Raises Invalid (code `bad_index`) naming each wrong place."""
    try:
        index = TaskIndex.model_validate(raw)
    except ValidationError as error:
        raise _bad(_problems("index", error)) from None
    problems: list[FieldProblem] = []
    seen: set[str] = set()
    queues: dict[str, tuple[str, QueueOptions]] = {}
    schemas = {task.id: task.json_schema for task in index.tasks}
    hooks: dict[str, str] = {}
    for task in index.tasks:
        if task.id in seen:
            problems.append(FieldProblem(path=task.id, message="stands in the index twice"))
        seen.add(task.id)
        options: TaskOptions | None = None
        try:
            options = TaskOptions.model_validate(task.options)
        except ValidationError as error:
            problems += _problems(f"{task.id}.options", error)
        else:
            queue = options.queue
            if options.on_failure is not None:
                problems += _handler_problems(task.id, options.on_failure, schemas)
            hook = options.webhook
            if hook is not None and hooks.setdefault(hook.path, task.id) != task.id:
                message = f"{hooks[hook.path]} has a webhook at {hook.path!r} too: give one of them another path"
                problems.append(FieldProblem(path=f"{task.id}.options.webhook", message=message))
            if queue is not None:
                first, known = queues.setdefault(queue.name, (task.id, queue))
                if known != queue:
                    message = f"the queue {queue.name!r} of {first} is another than that of {task.id}"
                    problems.append(FieldProblem(path=f"{task.id}.options.queue", message=message))
        if len(problems) >= _MOST_PROBLEMS:
            break
        problem = _schema_problem(task.json_schema)
        if problem:
            problems.append(FieldProblem(path=f"{task.id}.schema", message=problem))
        elif options is not None:
            problems += _caller_problems(task, options)
    if problems:
        raise _bad(problems)
    return index


def _caller_problems(task: IndexedTask, options: TaskOptions) -> list[FieldProblem]:
    """Why what is to call the task could not: a line or filter that is wrong, parameters that nothing fills."""
    found = [] if options.schedule is None else _schedule_problems(task, options.schedule)
    if options.webhook is not None:
        found += arguments.unfilled(f"{task.id}.webhook", task.json_schema, WEBHOOK_ARGUMENTS, "a webhook")
    path = f"{task.id}.on_event"
    for event in options.on_event:
        if event.where is not None:
            found += where.problems(event.where, f"{path}.{event.name}.where")
    if options.on_event:
        found += arguments.unfilled(path, task.json_schema, EVENT_ARGUMENTS, "an event")
    return found


def _handler_problems(task: str, handler: str, schemas: dict[str, dict[str, Any]]) -> list[FieldProblem]:
    """Why `handler` could not be told of failures of `task`. `schemas`: those of all tasks by id."""
    path = f"{task}.on_failure"
    if handler == task:
        return [FieldProblem(path=path, message="is the task itself: name another one")]
    if handler not in schemas:
        close = near(handler, schemas)
        hint = f"did you mean {close[0]!r}?" if close else f"the tasks are {', '.join(sorted(schemas)[:50])}"
        return [FieldProblem(path=path, message=f"there is no task {handler!r} in the project; {hint}")]
    return arguments.unfilled(path, schemas[handler], ("run",), "on_failure")


def _schedule_problems(task: IndexedTask, schedule: ScheduleOptions) -> list[FieldProblem]:
    try:
        cron.check(schedule.cron, schedule.timezone)
    except cron.BadSchedule as error:
        (field,) = error.fields
        return [FieldProblem(path=f"{task.id}.schedule.{field.path}", message=field.message)]
    return ticks.problems(task.id, task.json_schema)


def _schema_problem(schema: dict[str, Any]) -> str | None:
    if len(encode_small(schema)) > _LARGEST_SCHEMA:
        return f"is larger than {_LARGEST_SCHEMA} bytes"
    return vocabulary.problem(schema)


def _problems(prefix: str, error: ValidationError) -> list[FieldProblem]:
    return [
        FieldProblem(path=".".join([prefix, *map(str, e["loc"])]), message=f"{e['msg']}, got {e['input']!r:.80}")
        for e in error.errors()[:_MOST_PROBLEMS]
    ]


def _bad(problems: list[FieldProblem]) -> Invalid:
    problems = problems[:_MOST_PROBLEMS]
    listing = "; ".join(f"{p.path}: {p.message}" for p in problems)
    return Invalid(f"the image's task index cannot be used: {listing}", code="bad_index", fields=problems)
