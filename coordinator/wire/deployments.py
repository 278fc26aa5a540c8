"""Deployments and their builds over the public API."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from coordinator.wire.basics import Json


class Finding(BaseModel):
    """What a deployment changes for runs and callers of the current one, seen before it is promoted.

    `runs`: how many runs under way it concerns. `blocks`: it is not promoted unless that is forced.
    """

    task: str
    kind: Literal["task_gone", "checkpoints_changed", "schedule_gone", "event_gone", "webhook_gone"]
    message: str
    runs: int = 0
    blocks: bool = False


class Deployment(BaseModel):
    id: str
    project: str
    version: str
    status: Literal["building", "ready", "failed"]
    current: bool
    image: str | None = None
    tasks: list[dict[str, Json]] = Field(default_factory=list)
    error: dict[str, Json] | None = None
    #: As of when it was built or last promoted.
    findings: list[Finding] = Field(default_factory=list)
    #: Since when its image is gone: it can't be promoted, and no new run gets it.
    image_removed_at: str | None = None
    #: While its image, which a runner missed, is to be built again: when that is tried next, and what the last try
    #: came to. Its runs wait meanwhile.
    rebuild_due_at: str | None = None
    rebuild_error: dict[str, Json] | None = None
    created_at: str
    finished_at: str | None = None


class DeploymentPage(BaseModel):
    """Newest first; the items' `tasks` hold only their ids."""

    items: list[Deployment]
    next: str | None = None


class BuildLogLine(BaseModel):
    seq: int
    at: str
    message: str


class BuildLogPage(BaseModel):
    """`next` is what to pass as `after`; `done`: the build has ended and this is the rest."""

    items: list[BuildLogLine]
    next: str | None = None
    done: bool = False
