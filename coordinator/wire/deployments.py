"""Deployments and their builds over the public API."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from coordinator.wire.basics import MAX_ITEMS, BaseModel, Name, Object, Text, Whole, Word


class Finding(BaseModel):
    """What a deployment changes for runs and callers of the current one, seen before it is promoted.

    `runs`: how many runs under way it concerns. `blocks`: it is not promoted unless that is forced.
    """

    task: Name
    kind: Literal[
        "task_gone", "checkpoints_changed", "schedule_gone", "event_gone", "webhook_gone", "secret_missing"
    ]
    message: Text
    runs: Whole = 0
    blocks: bool = False


class Deployment(BaseModel):
    id: Name
    project: Name
    version: Name
    status: Literal["building", "ready", "failed"]
    current: bool
    image: Name | None = None
    tasks: Annotated[list[Object], Field(max_length=MAX_ITEMS)] = Field(default_factory=list)
    error: Object | None = None
    #: As of when it was built or last promoted.
    findings: Annotated[list[Finding], Field(max_length=MAX_ITEMS)] = Field(default_factory=list)
    #: Since when its image is gone: it can't be promoted, and no new run gets it.
    image_removed_at: Word | None = None
    #: While its image, which a runner missed, is to be built again: when that is tried next, and what the last try
    #: came to. Its runs wait meanwhile.
    rebuild_due_at: Word | None = None
    rebuild_error: Object | None = None
    created_at: Word
    finished_at: Word | None = None


class DeploymentPage(BaseModel):
    """Newest first; the items' `tasks` hold only their ids."""

    items: Annotated[list[Deployment], Field(max_length=MAX_ITEMS)]
    next: Name | None = None


class BuildLogLine(BaseModel):
    seq: Whole
    at: Word
    message: Text


class BuildLogPage(BaseModel):
    """`next` is what to pass as `after`; `done`: the build has ended and this is the rest."""

    items: Annotated[list[BuildLogLine], Field(max_length=MAX_ITEMS)]
    next: Name | None = None
    done: bool = False
