"""What was asked to be done with many runs, and what became of them."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Double, ForeignKey, Index, Integer, String, Table, Text

from coordinator.storage.tables.base import metadata, partial

bulks = Table(
    "bulks",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("act", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    #: A wire.RunFilter as JSON.
    Column("filter", Text, nullable=False),
    Column("version", String),
    #: The one that it is about; null for all.
    Column("project", String),
    # whose it is: it is done in the name of this key, as long as that is in force
    Column("key_id", String(40), nullable=False),
    Column("key_name", String, nullable=False),
    Column("role", String, nullable=False),
    #: Runs are seen to from the newest on: those with a smaller id are left.
    Column("cursor", String(64), nullable=False),
    Column("expected", Integer, nullable=False),
    Column("done", Integer, nullable=False),
    Column("problems", Integer, nullable=False),
    #: Why it was stopped, where nobody did.
    Column("problem", Text),
    Column("created_at", Double, nullable=False),
    Column("starts_at", Double, nullable=False),
    Column("progressed_at", Double, nullable=False),
    Column("finished_at", Double),
    CheckConstraint("act IN ('cancel', 'replay', 'dismiss')", name="act"),
    CheckConstraint("status IN ('waiting', 'running', 'done', 'taken_back', 'stopped')", name="status"),
    partial("ix_bulks_open", "starts_at", where="finished_at IS NULL"),
    Index("ix_bulks_finished_at", "finished_at"),
)

bulk_outcomes = Table(
    "bulk_outcomes",
    metadata,
    Column("bulk_id", String(40), ForeignKey("bulks.id"), primary_key=True),
    # no foreign key: what is said of a run outlives it
    Column("run_id", String(40), primary_key=True),
    Column("replay", String(40)),
    Column("problem", Text),
)
