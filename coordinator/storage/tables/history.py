"""What ended and how: facts as they are written, and what the duty `observe` makes of them.

Without foreign keys: runs, deployments and projects may be forgotten before their history.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Double, Index, Integer, LargeBinary, String, Table, Text

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
    #: Of the attempt's log.
    Column("log_bytes", BigInteger),
    CheckConstraint("kind IN ('attempt', 'run')", name="kind"),
)

# What ended of a task in an hour or a day.
history = Table(
    "history",
    metadata,
    Column("project", String, primary_key=True),
    #: Empty: all of the project.
    Column("task", String, primary_key=True),
    #: `hour` or `day`, and when it begins, in UTC: seconds since the epoch.
    Column("step", String(8), primary_key=True),
    Column("at", BigInteger, primary_key=True, autoincrement=False),
    #: How often each status, outcome, reason, start and cause; and sums of what is measured: JSON.
    Column("counts", Text, nullable=False),
    Column("sums", Text, nullable=False),
    # Histograms, see coordinator/history/buckets.py: milliseconds, and bytes.
    Column("queued", LargeBinary, nullable=False),
    Column("start", LargeBinary, nullable=False),
    Column("run", LargeBinary, nullable=False),
    Column("total", LargeBinary, nullable=False),
    Column("memory", LargeBinary, nullable=False),
    CheckConstraint("step IN ('hour', 'day')", name="step"),
    Index("ix_history_step", "step", "at", "project"),
)

# Errors that are alike, in each project.
errors = Table(
    "errors",
    metadata,
    Column("project", String, primary_key=True),
    Column("fingerprint", String(16), primary_key=True),
    #: Of the last one, as are the run and the version.
    Column("error_type", String, nullable=False),
    Column("title", Text, nullable=False),
    Column("first_seen", Double, nullable=False),
    Column("last_seen", Double, nullable=False),
    Column("last_run", String(40), nullable=False),
    Column("last_version", String, nullable=False),
    #: How many attempts (and runs without one) ended so, and how many runs with it.
    Column("count", BigInteger, nullable=False),
    Column("runs", BigInteger, nullable=False),
    #: JSON: names, the last first; versions, the latest first; how often in each of the last hours.
    Column("tasks", Text, nullable=False),
    Column("versions", Text, nullable=False),
    Column("spark", Text, nullable=False),
    #: Null while it is open. The version in which it was resolved; since when it is open again.
    Column("resolved_at", Double),
    Column("resolved_version", String),
    Column("reopened_at", Double),
    Column("muted_until", Double),
    Index("ix_errors_seen", "last_seen"),
    Index("ix_errors_project", "project", "last_seen"),
)
