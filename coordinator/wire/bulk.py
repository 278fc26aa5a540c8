"""Many runs at once, later: what is to be done, how far it has come, and what could not be done."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from coordinator.wire.basics import BaseModel, Count, Duration, Name, Strict, Text, Word
from coordinator.wire.runs import RunFilter

BulkAct = Literal["cancel", "replay", "dismiss"]
BulkStatus = Literal["waiting", "running", "done", "taken_back", "stopped"]

#: The longest that it may be put off, in seconds.
MAX_GRACE = 86_400.0


class BulkCreate(Strict):
    """What to do with all runs that fit `filter` now. `grace`: in which it may be taken back, before it begins.
    `version` is for replays.
    """

    act: BulkAct
    filter: RunFilter
    version: Name | None = None
    grace: Annotated[Duration, Field(le=MAX_GRACE)] = 10.0


class Bulk(BaseModel):
    """`status`: `waiting` until `starts_at`, `running`, then `done`; `taken_back` before it began, or `stopped`
    while it ran (`problem`: why, where it was not somebody who did). `key`: whose it is. `expected`: how many runs
    fitted when it was asked for, counted to 10,000; `done` and `problems`: how many of them were seen to, and
    how many not.
    """

    id: Name
    act: BulkAct
    status: BulkStatus
    filter: RunFilter
    version: Name | None = None
    project: Name | None = None
    key: Name | None = None
    expected: Count
    done: Count
    problems: Count
    problem: Text | None = None
    created_at: Word
    starts_at: Word
    finished_at: Word | None = None


class BulkPage(BaseModel):
    """Newest first."""

    items: Annotated[list[Bulk], Field(max_length=1000)]
    next: Name | None = None


class BulkOutcome(BaseModel):
    """Of one run: the run that replays it, or why nothing was done."""

    run: Name
    replay: Name | None = None
    problem: Text | None = None


class BulkOutcomes(BaseModel):
    """The newest runs first. Not of every run: 1,000 problems and 100 replays of each are kept."""

    items: Annotated[list[BulkOutcome], Field(max_length=1000)]
    next: Name | None = None
