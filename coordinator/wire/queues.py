"""Queues over the public API."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from coordinator.wire.basics import MAX_ITEMS, BaseModel, Name, Strict, Text, Whole, Word


class InLine(BaseModel):
    """A run that waits, and when it was made."""

    run: Name
    created_at: Word


class QueueState(BaseModel):
    """A queue: its limits, and what is in it now.

    `concurrency` is the limit that holds: `declared_concurrency` of the code unless `overridden` live. `rate` is
    text such as "100/m".
    """

    project: Name
    name: Name
    concurrency: Whole | None
    declared_concurrency: Whole | None
    overridden: bool
    per_key: Whole | None
    rate: Text | None
    rate_excess: Literal["wait", "refuse"]
    on_full: Literal["queue", "skip", "cancel_running", "keep_newest"]
    paused: bool
    running: Whole
    queued: Whole
    #: Where it was asked for: who has been in line for longest.
    oldest: InLine | None = None


class KeyState(BaseModel):
    """A concurrency key of a queue, with how many of its runs are running and in line."""

    key: Text
    running: Whole
    queued: Whole


class KeyStates(BaseModel):
    """Those with the most runs first. `more`: whether there are others."""

    project: Name
    queue: Name
    items: Annotated[list[KeyState], Field(max_length=MAX_ITEMS)]
    more: bool = False


class QueuePage(BaseModel):
    items: Annotated[list[QueueState], Field(max_length=MAX_ITEMS)]
    next: Name | None = None


class QueuePatch(Strict):
    """A live change; what is left out stays. `concurrency` null: the code's own value again."""

    concurrency: Whole | None = Field(None, le=1_000_000)
    paused: bool | None = None

    @field_validator("concurrency")
    @classmethod
    def _some(cls, value: int | None) -> int | None:
        if value is not None and value < 1:
            raise ValueError(
                "give at least 1, or null for the code's own value; to let nothing start, pause the queue"
            )
        return value
