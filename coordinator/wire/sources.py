"""Where runs come from besides a trigger: schedules, events and webhooks."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, model_validator

from coordinator.wire.basics import EVENT_NAME, Json, RunStatus, Strict


class LastTick(BaseModel):
    """The last tick that was fired: its run and that run's status now, or why it has no run."""

    at: str
    run: str | None = None
    status: RunStatus | None = None
    problem: str | None = None


class Schedule(BaseModel):
    """`next_at` is null while it is paused."""

    id: str
    project: str
    task: str
    cron: str
    timezone: str
    catchup: Literal["skip", "all"]
    paused: bool
    next_at: str | None = None
    last: LastTick | None = None
    #: Null for the one that the task's code declares.
    name: str | None = None
    payload: dict[str, Json] = Field(default_factory=dict)


class SchedulePage(BaseModel):
    items: list[Schedule]
    next: str | None = None


class ScheduleCreate(Strict):
    """A schedule beside the code's: `payload` is what its runs get besides `scheduled_at` and `previous_at`."""

    task: str
    name: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    cron: str
    timezone: str = "UTC"
    catchup: Literal["skip", "all"] = "skip"
    payload: dict[str, Json] = Field(default_factory=dict)
    paused: bool = False


class SchedulePatch(Strict):
    """What is left out stays. All but `paused` is for schedules that were made over the API."""

    paused: bool = False
    cron: str = ""
    timezone: str = ""
    catchup: Literal["skip", "all"] = "skip"
    payload: dict[str, Json] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _something(self) -> SchedulePatch:
        if not self.model_fields_set:
            raise ValueError("give at least one of paused, cron, timezone, catchup, payload")
        return self


class TickTime(BaseModel):
    """`local` is `at` with the offset of the schedule's zone."""

    at: str
    local: str


class TickTimes(BaseModel):
    items: list[TickTime]
    next: None = None


class EventRequest(Strict):
    """`payload` is any JSON value; `project` null: every project. The same `id` makes it one event."""

    name: str = Field(max_length=256, pattern=EVENT_NAME)
    payload: Json = Field(default_factory=dict)
    id: str | None = Field(None, min_length=1, max_length=512)
    project: str | None = Field(None, min_length=1, max_length=63)


class EventRun(BaseModel):
    id: str
    project: str
    task: str


class EventProblem(BaseModel):
    """A task that listened and has no run."""

    project: str
    task: str
    message: str


class Event(BaseModel):
    """`project` is null where it concerned every project."""

    id: str
    name: str
    project: str | None
    payload: Json
    created_at: str
    runs: list[EventRun]
    problems: list[EventProblem]


class EventPage(BaseModel):
    items: list[Event]
    next: str | None = None


DeliveryStatus = Literal["delivered", "dead"]


class HookAnswer(BaseModel):
    """What the sender of a webhook is told. `run` is null where the delivery is kept without one."""

    id: str
    delivery_id: str
    status: DeliveryStatus
    run: str | None


class Delivery(BaseModel):
    """`delivery_id`: as its sender calls it, else the id. `run`: its newest; `problem`: why it has none.

    `scheme` is what its signature fits, null for unsigned. `headers`, `query` (the parameters of
    its address) and `body` (text) are left out of lists.
    """

    id: str
    project: str
    webhook: str
    task: str
    delivery_id: str
    scheme: str | None
    status: DeliveryStatus
    problem: str | None
    run: str | None
    replays: int
    size_bytes: int
    received_at: str
    headers: dict[str, str] | None = None
    body: str | None = None
    query: dict[str, Json] | None = None


class DeliveryPage(BaseModel):
    items: list[Delivery]
    next: str | None = None


class Webhook(BaseModel):
    """`scheme` null: what the headers say. `refused`: how many deliveries, since this coordinator started."""

    project: str
    path: str
    url: str
    task: str
    signed: bool
    scheme: str | None
    secret: str | None
    secret_set: bool
    refused: int
    refused_at: str | None
    refused_reason: str | None
    #: The sender that is answered when it first asks, "own" for one that the code describes.
    challenge: str | None = None


class WebhookPage(BaseModel):
    items: list[Webhook]
    next: str | None = None
