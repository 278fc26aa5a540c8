"""What runs wait for."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
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
    text,
)

from coordinator.storage.tables.base import metadata, partial

# What a run waits for, or has waited for: a checkpoint whose value comes from elsewhere.
waits = Table(
    "waits",
    metadata,
    Column("run_id", String(40), ForeignKey("runs.id"), primary_key=True),
    Column("key", String, primary_key=True),
    Column("kind", String, nullable=False),
    #: What of: the name of an event, the id of a task. With the kind it is what a resumed run has to ask for again.
    Column("name", String),
    #: The filter of an event, as JSON.
    Column("filter", Text),
    #: The order in which the run made checkpoints and waits, from 1.
    Column("position", Integer, nullable=False),
    Column("status", String, nullable=False),
    #: Whether the run is suspended over it: then it goes on when this is resolved.
    Column("awaited", Boolean, nullable=False),
    #: When it is over by itself: a sleep is done then, anything else has timed out.
    Column("due_at", Double),
    Column("value", Text),
    Column("value_blob", String(64)),
    Column("size", BigInteger, nullable=False),
    #: SHA-256 of a token's id.
    Column("token_hash", String(64)),
    #: The run or the runs it is about, their ids as JSON, in order.
    Column("runs", Text),
    #: The event that resolved it.
    Column("event", String(40)),
    Column("attempt", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("resolved_at", Double),
    CheckConstraint("status IN ('pending', 'done', 'timed_out', 'closed')", name="status"),
    Index(
        "uq_waits_token",
        "token_hash",
        unique=True,
        sqlite_where=text("token_hash IS NOT NULL"),
        postgresql_where=text("token_hash IS NOT NULL"),
    ),
    partial("ix_waits_pending", "kind", "run_id", "key", where="status = 'pending'"),
    partial("ix_waits_due", "due_at", where="status = 'pending' AND due_at IS NOT NULL"),
    partial("ix_waits_event", "name", where="status = 'pending' AND kind = 'event'"),
)
