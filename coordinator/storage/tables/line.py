"""What stands in line and who takes from it: queues, lanes, batches of triggers, runners."""

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
)

from coordinator.storage.tables.base import metadata, partial

queues = Table(
    "queues",
    metadata,
    Column("project", String, ForeignKey("projects.name"), primary_key=True),
    Column("name", String, primary_key=True),
    # what the code of the current deployment says
    Column("concurrency", Integer),
    Column("per_key", Integer),
    #: `rate_limit` runs in any `rate_period` seconds.
    Column("rate_limit", Integer),
    Column("rate_period", Double),
    Column("rate_excess", String, nullable=False),
    Column("on_full", String, nullable=False),
    # what was changed live
    Column("override", Integer),
    Column("paused", Boolean, nullable=False),
    CheckConstraint("rate_excess IN ('wait', 'refuse')", name="rate_excess"),
    CheckConstraint("on_full IN ('queue', 'skip', 'cancel_running', 'keep_newest')", name="on_full"),
)

# Queued runs that are alike stand in one lane: same queue, task, concurrency key and memory. Claims take turns
# among lanes, so they look at lanes and not at runs. A row is a hint of what stands in the lane: `rank` is never
# above that of its first run, and null only when the lane is empty.
lanes = Table(
    "lanes",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project", String, nullable=False),
    Column("queue", String, nullable=False),
    #: The concurrency key, empty for none.
    Column("key", String, nullable=False),
    Column("memory", BigInteger, nullable=False),
    #: Its turn: the place in line of its first run, or when the lane was last served, whichever is later.
    Column("rank", Double),
    Column("served_at", Double, nullable=False),
    #: Until then its rate lets nothing start; `rank` is null meanwhile.
    Column("opens_at", Double),
    partial("ix_lanes_turn", "project", "queue", "rank", "id", "memory", "key", where="rank IS NOT NULL"),
    partial("ix_lanes_opens", "opens_at", where="opens_at IS NOT NULL"),
    partial("ix_lanes_idle", "served_at", where="rank IS NULL AND opens_at IS NULL"),
)

# When each project was last given a run to start: projects take turns, whatever their lanes and priorities.
turns = Table(
    "turns",
    metadata,
    # no foreign key: it would make a claim wait for a deploy, which waits for lanes that the claim holds
    Column("project", String, primary_key=True),
    Column("served_at", Double, nullable=False),
)

batches = Table(
    "batches",
    metadata,
    Column("project", String, primary_key=True),
    Column("task", String, primary_key=True),
    Column("idempotency_key", String, primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    #: Their ids, in the order of the items, as JSON.
    Column("runs", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    #: As a run's.
    Column("key_until", Double),
    Index("ix_batches_created_at", "created_at"),
)

# What held runs in line: not a run's own, but that of all which are held alike. See coordinator/line/holds.py.
holds = Table(
    "holds",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    #: Whom it held: the digest of a queue, a key of it, an amount of memory …
    Column("scope", String(32), nullable=False),
    Column("reason", String(16), nullable=False),
    Column("began_at", Double, nullable=False),
    #: When it was seen last.
    Column("until", Double, nullable=False),
    Index("ix_holds_scope", "scope", "until"),
    Index("ix_holds_until", "until"),
)

runners = Table(
    "runners",
    metadata,
    Column("name", String, primary_key=True),
    Column("memory", BigInteger, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("task_memory", BigInteger),
    #: Its containers, a list of wire.PoolEntry with when each was told of; and what it has called that.
    Column("pool", Text, nullable=False),
    Column("pool_state", String, nullable=False, server_default=""),
    #: What its policy gives to projects, as JSON; null: the usual shares.
    Column("shares", Text),
    Column("seen_at", Double, nullable=False),
    #: Since when it gets nothing new.
    Column("drained_at", Double),
)
