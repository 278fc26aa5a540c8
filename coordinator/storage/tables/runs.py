"""Runs and what they leave: tags, attempts, checkpoints, log lines."""

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
    UniqueConstraint,
    false,
    text,
)

from coordinator.storage.tables.base import metadata, of_status, partial

#: Under which log lines are counted; a critical one is an error.
LOG_LEVELS = ("debug", "info", "warning", "error")
_LIVE = "status IN ('claimed', 'running')"
_DEBOUNCED = "status = 'delayed' AND debounce_key IS NOT NULL"


def _counted() -> list[Column[int]]:
    return [Column(f"log_{level}", Integer, nullable=False, server_default="0") for level in LOG_LEVELS]


runs = Table(
    "runs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("project", String, nullable=False),
    Column("task", String, nullable=False),
    Column("deployment_id", String(40), ForeignKey("deployments.id"), nullable=False),
    Column("version", String, nullable=False),
    Column("status", String, nullable=False),
    Column("payload", Text),
    Column("payload_blob", String(64)),
    Column("result", Text),
    Column("result_blob", String(64)),
    Column("error", Text),
    # see coordinator/history/fingerprints.py; null too where it ended before there were any
    Column("error_type", String),
    Column("error_fingerprint", String(16)),
    Column("tags", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("concurrency_key", String),
    Column("idempotency_key", String),
    #: SHA-256 of the trigger's body without its idempotency key.
    Column("fingerprint", String(64), nullable=False),
    #: What the next attempt gets; raised after an attempt that ran out of memory.
    Column("memory", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    #: Since when it may be claimed (this time round), and its place in line: that less the priority.
    Column("queued_at", Double, nullable=False),
    Column("order_at", Double, nullable=False),
    Column("due_at", Double),
    Column("expires_at", Double),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("cancel_requested_at", Double),
    Column("attempts", Integer, nullable=False),
    #: How many attempts ended by the task's fault, of them by memory, and how many by the platform's.
    Column("failures", Integer, nullable=False),
    Column("ooms", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("current_attempt", String(40)),
    Column("progress", Text),
    Column("metadata", Text),
    Column("start", String),
    Column("queued_ms", Double),
    Column("start_ms", Double),
    Column("run_ms", Double),
    Column("peak_memory", BigInteger),
    Column("memory_limit", BigInteger),
    Column("trace_id", String(32), nullable=False),
    # (defaults for rows older than the columns; the migration fills them)
    Column("queue", String, nullable=False, server_default=""),
    Column("lane", String(32), nullable=False, server_default=""),
    #: When it counted towards its queue's rate, where there is one.
    Column("rated_at", Double),
    #: While it is delayed: later triggers with this key replace it, and put it off until then at most.
    Column("debounce_key", String),
    Column("debounce_until", Double),
    #: What triggered it, and which one: a schedule, the run that failed or is replayed. "api" has no id.
    Column("origin", String, nullable=False, server_default="api"),
    Column("origin_id", String),
    #: When its whole time is over, whatever it is doing then; null for no limit, and once it has ended.
    Column("deadline_at", Double),
    #: Since when it stands in the dead-letter list; null once it was replayed or dismissed.
    Column("dead_at", Double),
    # No foreign keys: a parent may be forgotten before its children.
    #: The run that triggered it, the wait of that run which did, and the first run of all.
    Column("parent", String(40)),
    Column("parent_key", String),
    Column("root", String(40)),
    #: How many runs stand above it.
    Column("depth", Integer, nullable=False, server_default="0"),
    #: Whether a cancel of its parent leaves it alone.
    Column("detached", Boolean, nullable=False, server_default=false()),
    #: Until when its idempotency key is its own; null for as long as it is kept.
    Column("key_until", Double),
    #: Of its payload and result, and of the checkpoints and logs of attempts that have ended.
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    #: Lines in the logs of attempts that have ended.
    *_counted(),
    CheckConstraint(
        "status IN ('queued', 'delayed', 'running', 'waiting', "
        "'completed', 'failed', 'canceled', 'timed_out', 'expired')",
        name="status",
    ),
    UniqueConstraint("project", "task", "idempotency_key"),
    # A lane's line, read from its head.
    of_status("ix_runs_lane", "queued", "lane", "order_at", "id", "expires_at"),
    of_status("ix_runs_queued", "queued", "project", "queue", "concurrency_key"),
    of_status("ix_runs_running", "running", "project", "queue", "concurrency_key"),
    partial("ix_runs_rate", "project", "queue", "concurrency_key", "rated_at", where="rated_at IS NOT NULL"),
    Index(
        "uq_runs_debounce",
        "project",
        "task",
        "debounce_key",
        unique=True,
        sqlite_where=text(_DEBOUNCED),
        postgresql_where=text(_DEBOUNCED),
    ),
    of_status("ix_runs_due", "delayed", "due_at"),
    partial("ix_runs_expiry", "expires_at", where="expires_at IS NOT NULL"),
    partial("ix_runs_deadline", "deadline_at", where="deadline_at IS NOT NULL"),
    partial("ix_runs_dead", "id", where="dead_at IS NOT NULL"),
    partial("ix_runs_children", "parent", "parent_key", "finished_at", where="parent IS NOT NULL"),
    partial("ix_runs_root", "root", where="root IS NOT NULL"),
    partial("ix_runs_unfinished", "project", where="finished_at IS NULL"),
    Index("ix_runs_bytes", "project", "bytes"),
    Index("ix_runs_task", "task", "id"),
    Index("ix_runs_project", "project", "id"),
    # two projects may have a task of one name, and one of them many runs of it
    Index("ix_runs_project_task", "project", "task", "id"),
    Index("ix_runs_status", "status", "id"),
    # Of most tasks most runs have completed: those that have not are found without reading past them.
    partial("ix_runs_task_status", "task", "status", "id", where="status <> 'completed'"),
    partial("ix_runs_error", "error_fingerprint", "id", where="error_fingerprint IS NOT NULL"),
    # what has no frame, as a cancel, has one fingerprint in all projects
    partial("ix_runs_error_project", "error_fingerprint", "project", "id", where="error_fingerprint IS NOT NULL"),
    Index("ix_runs_deployment", "deployment_id", "task", "status"),
    partial("ix_runs_finished", "finished_at", where="finished_at IS NOT NULL"),
    partial("ix_runs_payload_blob", "payload_blob", where="payload_blob IS NOT NULL"),
    partial("ix_runs_result_blob", "result_blob", where="result_blob IS NOT NULL"),
)

run_tags = Table(
    "run_tags",
    metadata,
    Column("tag", String, primary_key=True),
    Column("run_id", String(40), ForeignKey("runs.id"), primary_key=True),
    Index("ix_run_tags_run_id", "run_id"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("run_id", String(40), ForeignKey("runs.id"), nullable=False),
    Column("number", Integer, nullable=False),
    #: The lease token: rises with every attempt of the run.
    Column("token", Integer, nullable=False),
    Column("runner", String, nullable=False),
    Column("status", String, nullable=False),
    Column("memory", BigInteger, nullable=False),
    Column("start", String),
    Column("claimed_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("lease_until", Double, nullable=False),
    #: Seconds of timeout that the attempt asked for on top of its task's.
    Column("extended", Double, nullable=False),
    Column("exit_code", Integer),
    Column("peak_memory", BigInteger),
    Column("error", Text),
    # see coordinator/history/fingerprints.py; null too where it ended before there were any
    Column("error_type", String),
    Column("error_fingerprint", String(16)),
    #: SHA-256 of the `finish` that ended it: the same one sent again is answered as the first was.
    Column("finish_digest", String(64)),
    #: Encoded bytes of its log lines, so that a run has only so many.
    Column("log_bytes", BigInteger, nullable=False, server_default="0"),
    #: The lines themselves.
    *_counted(),
    # How it came to its container, and where its time went, in milliseconds: see wire.Phases.
    Column("cause", String),
    #: Whose run the last container of the kind had left for: a project, and a task of it.
    Column("evicted_by_project", String),
    Column("evicted_by_task", String),
    Column("container", String),
    Column("container_run", Integer),
    Column("queued_ms", Double),
    Column("placed_ms", Double),
    Column("starting_ms", Double),
    Column("importing_ms", Double),
    Column("handed_ms", Double),
    Column("ran_ms", Double),
    Column("reported_ms", Double),
    #: Its memory over its time, as its container says: a wire.Curve as JSON, of 4 KiB at most.
    Column("curve", Text),
    #: What it has reached, null where that is nothing: JSON with `hosts`, a list of wire.EgressHost, of which
    #: `before` were reached by way of other sidecars than `boot`.
    Column("egress", Text),
    CheckConstraint(
        "status IN ('claimed', 'running', 'completed', 'failed', 'timed_out', 'canceled', 'lost', 'suspended')",
        name="status",
    ),
    UniqueConstraint("run_id", "number"),
    partial("ix_attempts_live", "runner", "lease_until", where=_LIVE),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("run_id", String(40), ForeignKey("runs.id"), primary_key=True),
    Column("key", String, primary_key=True),
    #: The order in which the run made them, from 1.
    Column("position", Integer, nullable=False),
    Column("value", Text),
    Column("value_blob", String(64)),
    Column("size", BigInteger, nullable=False),
    #: No foreign key: a replay's checkpoints come from attempts of an earlier run, which may be forgotten first.
    Column("attempt_id", String(40), nullable=False),
    Column("attempt", Integer, nullable=False),
    #: When its computation began, as the container has measured it; null where it has not.
    Column("begun_at", Double),
    Column("created_at", Double, nullable=False),
    partial("ix_checkpoints_value_blob", "value_blob", where="value_blob IS NOT NULL"),
)

log_lines = Table(
    "log_lines",
    metadata,
    # only one attempt of a run writes at a time, so (attempt, seq) is also the order of arrival: the cursor
    Column("run_id", String(40), ForeignKey("runs.id"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("level", String, nullable=False),
    Column("stream", String, nullable=False),
    Column("logger", String),
    Column("message", Text, nullable=False),
    # of a line that has not ended; the row with what it has become names it, and takes its place
    Column("partial", Boolean, nullable=False, server_default=false()),
    Column("replaces", BigInteger),
)
