"""What makes runs besides a trigger: schedules, events, deliveries of webhooks."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from coordinator.storage.tables.base import metadata, partial

schedules = Table(
    "schedules",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("project", String, ForeignKey("projects.name"), nullable=False),
    Column("task", String, nullable=False),
    Column("cron", String, nullable=False),
    Column("timezone", String, nullable=False),
    Column("catchup", String, nullable=False),
    Column("paused", Boolean, nullable=False),
    #: Null while it is paused or removed: such a one is never due.
    Column("next_at", Double),
    #: The last tick that was fired.
    Column("last_at", Double),
    Column("created_at", Double, nullable=False),
    #: Since when the current deployment has it no more.
    Column("removed_at", Double),
    #: Empty for the one that the task's code declares; others are made over the API.
    Column("name", String, nullable=False, server_default=""),
    #: What its runs get besides the ticks' own values, as JSON.
    Column("payload", Text, nullable=False, server_default="{}"),
    CheckConstraint("catchup IN ('skip', 'all')", name="catchup"),
    UniqueConstraint("project", "task", "name"),
    Index("ix_schedules_next", "next_at"),
)

ticks = Table(
    "ticks",
    metadata,
    # the key is what makes a tick fire once, whoever fires it
    Column("schedule_id", String(40), ForeignKey("schedules.id"), primary_key=True),
    Column("at", Double, primary_key=True),
    Column("fired_at", Double, nullable=False),
    Column("run_id", String(40), ForeignKey("runs.id")),
    #: Why there is no run.
    Column("problem", Text),
    Index("ix_ticks_run_id", "run_id"),
)

events = Table(
    "events",
    metadata,
    Column("key", String(40), primary_key=True),
    #: Empty: it concerns every project.
    Column("project", String, nullable=False),
    Column("name", String, nullable=False),
    #: As its sender named it, else the key.
    Column("id", String, nullable=False),
    #: JSON, small enough for the row (limits.MAX_EVENT): filters read it there.
    Column("payload", Text, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("project", "id"),
    Index("ix_events_name", "name", "created_at"),
    Index("ix_events_created_at", "created_at"),
)

# No foreign keys to runs here and in deliveries: a run may be forgotten before what called it.
event_runs = Table(
    "event_runs",
    metadata,
    # the key is what makes a task's run of an event one
    Column("event", String(40), ForeignKey("events.key"), primary_key=True),
    Column("project", String, primary_key=True),
    Column("task", String, primary_key=True),
    Column("run_id", String(40)),
    #: Why there is no run.
    Column("problem", Text),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("project", String, nullable=False),
    Column("path", String, nullable=False),
    Column("task", String, nullable=False),
    #: What its sender calls it, else the id. The key makes a delivery that comes again the same one.
    Column("sender_id", String, nullable=False),
    #: By which it was verified, null for unsigned.
    Column("scheme", String),
    Column("status", String, nullable=False),
    #: Why it is dead.
    Column("problem", Text),
    Column("headers", Text, nullable=False),
    #: The bytes as they came.
    Column("body", LargeBinary),
    Column("body_blob", String(64)),
    Column("size", Integer, nullable=False),
    #: The newest of its runs.
    Column("run_id", String(40)),
    Column("replays", Integer, nullable=False),
    Column("received_at", Double, nullable=False),
    #: The parameters of its address, as JSON; null for none.
    Column("query", Text),
    CheckConstraint("status IN ('delivered', 'dead')", name="status"),
    UniqueConstraint("project", "path", "sender_id"),
    Index("ix_deliveries_status", "status", "id"),
    Index("ix_deliveries_received", "received_at"),
    partial("ix_deliveries_body_blob", "body_blob", where="body_blob IS NOT NULL"),
)
