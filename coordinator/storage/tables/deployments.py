"""Projects, their deployments, and what the index of each declares."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from coordinator.storage.tables.base import metadata, partial

projects = Table(
    "projects",
    metadata,
    Column("name", String, primary_key=True),
    #: The deployment that new runs get; no foreign key, since deployments refer to projects.
    Column("current_deployment", String(40)),
    #: When it became that.
    Column("promoted_at", Double),
    Column("created_at", Double, nullable=False),
)

deployments = Table(
    "deployments",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("project", String, ForeignKey("projects.name"), nullable=False),
    Column("version", String, nullable=False),
    #: The two halves of the version: the UTC day as YYYYMMDD, and the number within the project and day.
    Column("day", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("status", String, nullable=False),
    #: Whether it becomes the current one when it is ready.
    Column("promote", Boolean, nullable=False),
    #: Whether also where that breaks something for runs that are under way.
    Column("force", Boolean, nullable=False, server_default=false()),
    #: Which promotion of its project made it current last, counted from 1; none: never, or it was rolled back.
    Column("promotion", Integer),
    Column("source_blob", String(64), nullable=False),
    Column("image", String),
    Column("sdk", String),
    Column("python", String),
    Column("error", Text),
    Column("build_runner", String),
    Column("build_token", Integer, nullable=False),
    Column("build_tries", Integer, nullable=False),
    Column("build_claimed_at", Double),
    Column("build_lease", Double),
    Column("created_at", Double, nullable=False),
    Column("finished_at", Double),
    #: What its check against the runs of earlier ones has found, as JSON.
    Column("findings", Text),
    #: Since when no runner is asked to keep its image: no new run gets it.
    Column("image_removed_at", Double),
    #: When its image, which a runner missed, is to be built again; null while it is there. Its runs are parked.
    Column("rebuild_due_at", Double),
    #: Who missed it, and how often in a row it could not be built, with the last reason as JSON.
    Column("rebuild_runner", String),
    Column("rebuild_failures", Integer, nullable=False, server_default="0"),
    Column("rebuild_error", Text),
    CheckConstraint("status IN ('building', 'ready', 'failed')", name="status"),
    UniqueConstraint("project", "version"),
    partial("ix_deployments_building", "created_at", where="status = 'building'"),
    partial("ix_deployments_rebuild", "rebuild_due_at", where="rebuild_due_at IS NOT NULL"),
)

tasks = Table(
    "tasks",
    metadata,
    Column("deployment_id", String(40), ForeignKey("deployments.id"), primary_key=True),
    Column("task", String, primary_key=True),
    Column("module", String, nullable=False),
    Column("name", String, nullable=False),
    Column("doc", Text),
    Column("schema", Text, nullable=False),
    Column("options", Text, nullable=False),
    #: The keys of its checkpoints as far as its source tells, as JSON; null where that is not known.
    Column("checkpoint_keys", Text),
    Index("ix_tasks_task", "task"),
)

build_log = Table(
    "build_log",
    metadata,
    Column("deployment_id", String(40), ForeignKey("deployments.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("line", Text, nullable=False),
)

# Which events of which tasks a deployment listens to: written with its index, so that promote and rollback
# have nothing to change here. A task may listen to one event with several filters.
listeners = Table(
    "listeners",
    metadata,
    Column("deployment_id", String(40), ForeignKey("deployments.id"), primary_key=True),
    Column("task", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("event", String, nullable=False),
    #: A `where` filter as JSON, or null.
    Column("filter", Text),
    Index("ix_listeners_event", "event", "deployment_id"),
)

# As listeners: written with a deployment's index.
webhooks = Table(
    "webhooks",
    metadata,
    Column("deployment_id", String(40), ForeignKey("deployments.id"), primary_key=True),
    Column("path", String, primary_key=True),
    Column("task", String, nullable=False),
    #: The name of the secret that signs, null for a webhook that takes anything.
    Column("secret", String),
    #: Null: what the headers say.
    Column("scheme", String),
    #: How a sender that first asks is answered, as JSON; null where none asks.
    Column("challenge", Text),
    CheckConstraint("scheme IN ('standard', 'github', 'stripe', 'slack', 'zoom', 'x')", name="scheme"),
    Index("ix_webhooks_path", "path"),
)
