"""Where runs come from besides a trigger: schedules, events and webhooks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from coordinator.wire.basics import (
    EVENT_NAME,
    MAX_ITEMS,
    BaseModel,
    Bytes,
    Json,
    Name,
    Object,
    RunStatus,
    Strict,
    Text,
    Texts,
    Whole,
    Word,
)


class LastTick(BaseModel):
    """The last tick that was fired: its run and that run's status now, or why it has no run."""

    at: Word
    run: Name | None = None
    status: RunStatus | None = None
    problem: Text | None = None


class Schedule(BaseModel):
    """`next_at` is null while it is paused."""

    id: Name
    project: Name
    task: Name
    cron: Text
    timezone: Text
    catchup: Literal["skip", "all"]
    paused: bool
    next_at: Word | None = None
    last: LastTick | None = None
    #: Null for the one that the task's code declares.
    name: Name | None = None
    payload: Object = Field(default_factory=dict)


class SchedulePage(BaseModel):
    items: Annotated[list[Schedule], Field(max_length=MAX_ITEMS)]
    next: Name | None = None


class ScheduleCreate(Strict):
    """A schedule beside the code's: `payload` is what its runs get besides `scheduled_at` and `previous_at`."""

    task: Name
    name: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    cron: Text
    timezone: Text = "UTC"
    catchup: Literal["skip", "all"] = "skip"
    payload: Object = Field(default_factory=dict)
    paused: bool = False


class SchedulePatch(Strict):
    """What is left out stays. All but `paused` is for schedules that were made over the API."""

    paused: bool = False
    cron: Text = ""
    timezone: Text = ""
    catchup: Literal["skip", "all"] = "skip"
    payload: Object = Field(default_factory=dict)

    @model_validator(mode="after")
    def _something(self) -> SchedulePatch:
        if not self.model_fields_set:
            raise ValueError("give at least one of paused, cron, timezone, catchup, payload")
        return self


class TickTime(BaseModel):
    """`local` is `at` with the offset of the schedule's zone."""

    at: Word
    local: Word


class TickTimes(BaseModel):
    items: Annotated[list[TickTime], Field(max_length=MAX_ITEMS)]
    next: None = None


class EventRequest(Strict):
    """`payload` is any JSON value; `project` null: every project. The same `id` makes it one event."""

    name: str = Field(max_length=256, pattern=EVENT_NAME)
    payload: Json = Field(default_factory=dict)
    id: str | None = Field(None, min_length=1, max_length=512)
    project: str | None = Field(None, min_length=1, max_length=63)


class EventRun(BaseModel):
    id: Name
    project: Name
    task: Name


class EventProblem(BaseModel):
    """A task that listened and has no run."""

    project: Name
    task: Name
    message: Text


class Event(BaseModel):
    """`project` is null where it concerned every project."""

    id: Name
    name: Name
    project: Name | None
    payload: Json
    created_at: Word
    runs: Annotated[list[EventRun], Field(max_length=MAX_ITEMS)]
    problems: Annotated[list[EventProblem], Field(max_length=MAX_ITEMS)]


class EventPage(BaseModel):
    items: Annotated[list[Event], Field(max_length=MAX_ITEMS)]
    next: Name | None = None


DeliveryStatus = Literal["delivered", "dead"]


class HookAnswer(BaseModel):
    """What the sender of a webhook is told. `run` is null where the delivery is kept without one."""

    id: Name
    delivery_id: Name
    status: DeliveryStatus
    run: Name | None


class Delivery(BaseModel):
    """`delivery_id`: as its sender calls it, else the id. `run`: its newest; `problem`: why it has none.

    `scheme` is what its signature fits, null for unsigned. `headers`, `query` (the parameters of
    its address) and `body` (text) are left out of lists.
    """

    id: Name
    project: Name
    webhook: Name
    task: Name
    delivery_id: Name
    scheme: Text | None
    status: DeliveryStatus
    problem: Text | None
    run: Name | None
    replays: Whole
    size_bytes: Bytes
    received_at: Word
    headers: Texts | None = None
    body: Text | None = None
    query: Object | None = None


class DeliveryPage(BaseModel):
    items: Annotated[list[Delivery], Field(max_length=MAX_ITEMS)]
    next: Name | None = None


class Webhook(BaseModel):
    """`scheme` null: what the headers say. `refused`: how many deliveries, since this coordinator started."""

    project: Name
    path: Name
    url: Text
    task: Name
    signed: bool
    scheme: Text | None
    secret: Name | None
    secret_set: bool
    refused: Whole
    refused_at: Word | None
    refused_reason: Text | None
    #: The sender that is answered when it first asks, "own" for one that the code describes.
    challenge: Text | None = None


class WebhookPage(BaseModel):
    items: Annotated[list[Webhook], Field(max_length=MAX_ITEMS)]
    next: Name | None = None
