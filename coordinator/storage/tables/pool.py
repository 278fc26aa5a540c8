"""What is kept of runners' pools: the containers that have left, and how runs have begun."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, String, Table, Text

from coordinator.storage.tables.base import metadata

lives = Table(
    "lives",
    metadata,
    # no foreign keys: a project may be forgotten before its containers, and a runner is never removed
    Column("container", String, primary_key=True),
    Column("runner", String, nullable=False),
    Column("project", String, nullable=False),
    Column("image", String, nullable=False),
    Column("memory", BigInteger, nullable=False),
    #: See wire.Leaving; and for whose run or container it has left.
    Column("why", String, nullable=False),
    Column("by_project", String),
    Column("by_task", String),
    Column("began_at", Double, nullable=False),
    Column("left_at", Double, nullable=False),
    Column("runs", Integer, nullable=False),
    Column("task", String),
    #: Its H, where it was idle.
    Column("worth", Double),
    #: Of its last runs, as JSON: a list of wire.Sample.
    Column("memory_runs", Text, nullable=False),
    Index("ix_lives_left", "left_at"),
    Index("ix_lives_runner", "runner", "left_at"),
    Index("ix_lives_project", "project", "left_at"),
)

# A row for each few minutes in which a run has begun on a runner: its last word on them, as it is told more.
starts = Table(
    "starts",
    metadata,
    Column("runner", String, primary_key=True),
    Column("slot", String, primary_key=True),
    Column("at", Double, nullable=False),
    #: A list of wire.StartCount, as JSON.
    Column("counts", Text, nullable=False),
    Index("ix_starts_at", "at"),
)
