"""What ended and how: facts as they are written, and what the duty `observe` makes of them.

Without foreign keys: runs, deployments and projects may be forgotten before their history.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Double, Integer, String, Table, Text

from coordinator.storage.tables.base import metadata

# A row for each attempt and each run that ended, until it was folded. What is folded is deleted: it stays small.
facts = Table(
    "facts",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at", Double, nullable=False),
    #: `attempt`; or `run` where it ended without one, in line or while it waited.
    Column("kind", String(16), nullable=False),
    Column("project", String, nullable=False),
    Column("task", String, nullable=False),
    Column("version", String, nullable=False),
    Column("run_id", String(40), nullable=False),
    Column("number", Integer),
    #: The attempt's status; the run's, where it is the end of that too.
    Column("outcome", String(16)),
    Column("status", String(16)),
    #: See wire.Reason, wire.Start and wire.Cause.
    Column("reason", String(16)),
    Column("start", String(16)),
    Column("cause", String(16)),
    #: Of the attempt; `total_ms` of the run, from its trigger to its end.
    Column("queued_ms", Double),
    Column("start_ms", Double),
    Column("run_ms", Double),
    Column("total_ms", Double),
    Column("peak_memory", BigInteger),
    Column("memory_limit", BigInteger),
    #: Of the error: its type, the fingerprint and the first line of its message.
    Column("error_type", String),
    Column("fingerprint", String(16)),
    Column("title", Text),
    CheckConstraint("kind IN ('attempt', 'run')", name="kind"),
)
