"""Every table, in one place. Times are seconds since the epoch by the database's clock, memory is bytes.

Columns named `…_blob` hold the name of a blob where the value beside them was too large for the row.
Text columns that hold JSON are written by `values.encode`, never by hand.
"""

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
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    literal_column,
    text,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

_LIVE = "status IN ('claimed', 'running')"
_DEBOUNCED = "status = 'delayed' AND debounce_key IS NOT NULL"


def _partial(name: str, *columns: str, where: str) -> Index:
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


def _of_status(name: str, status: str, *columns: str) -> Index:
    """An index of the rows in one status, to be searched by `columns`.

    `status` is its first column, or SQLite takes ix_runs_status and sorts. Where PostgreSQL finds that the index
    holds no other status it does not search by that column, and then by none after it: it would read all of the
    index to find a lane in it. So it is told of one status more, which no row has.
    """
    return Index(
        name,
        "status",
        *columns,
        sqlite_where=text(f"status = '{status}'"),
        postgresql_where=text(f"status IN ('{status}', '')"),
    )


keys = Table(
    "keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("role", String, nullable=False),
    #: SHA-256 of the key, hexadecimal: the keys are random, so a slow hash would guard nothing.
    Column("hash", String(64), nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
    #: The one it sees; null for all.
    Column("project", String),
    CheckConstraint("role IN ('admin', 'runner', 'trigger', 'read')", name="role"),
)

projects = Table(
    "projects",
    metadata,
    Column("name", String, primary_key=True),
    #: The deployment that new runs get; no foreign key, since deployments refer to projects.
    Column("current_deployment", String(40)),
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
    CheckConstraint("status IN ('building', 'ready', 'failed')", name="status"),
    UniqueConstraint("project", "version"),
    _partial("ix_deployments_building", "created_at", where="status = 'building'"),
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
    _partial("ix_lanes_turn", "project", "queue", "rank", "id", "memory", "key", where="rank IS NOT NULL"),
    _partial("ix_lanes_opens", "opens_at", where="opens_at IS NOT NULL"),
    _partial("ix_lanes_idle", "served_at", where="rank IS NULL AND opens_at IS NULL"),
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
    Index("ix_batches_created_at", "created_at"),
)

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
    CheckConstraint(
        "status IN ('queued', 'delayed', 'running', 'waiting', "
        "'completed', 'failed', 'canceled', 'timed_out', 'expired')",
        name="status",
    ),
    UniqueConstraint("project", "task", "idempotency_key"),
    # A lane's line, read from its head.
    _of_status("ix_runs_lane", "queued", "lane", "order_at", "id", "expires_at"),
    _of_status("ix_runs_queued", "queued", "project", "queue", "concurrency_key"),
    _of_status("ix_runs_running", "running", "project", "queue", "concurrency_key"),
    _partial("ix_runs_rate", "project", "queue", "concurrency_key", "rated_at", where="rated_at IS NOT NULL"),
    Index(
        "uq_runs_debounce",
        "project",
        "task",
        "debounce_key",
        unique=True,
        sqlite_where=text(_DEBOUNCED),
        postgresql_where=text(_DEBOUNCED),
    ),
    _of_status("ix_runs_due", "delayed", "due_at"),
    _partial("ix_runs_expiry", "expires_at", where="expires_at IS NOT NULL"),
    _partial("ix_runs_deadline", "deadline_at", where="deadline_at IS NOT NULL"),
    _partial("ix_runs_dead", "id", where="dead_at IS NOT NULL"),
    _partial("ix_runs_children", "parent", "parent_key", "finished_at", where="parent IS NOT NULL"),
    Index("ix_runs_task", "task", "id"),
    Index("ix_runs_project", "project", "id"),
    Index("ix_runs_status", "status", "id"),
    Index("ix_runs_deployment", "deployment_id", "task", "status"),
    _partial("ix_runs_finished", "finished_at", where="finished_at IS NOT NULL"),
    _partial("ix_runs_payload_blob", "payload_blob", where="payload_blob IS NOT NULL"),
    _partial("ix_runs_result_blob", "result_blob", where="result_blob IS NOT NULL"),
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
    #: SHA-256 of the `finish` that ended it: the same one sent again is answered as the first was.
    Column("finish_digest", String(64)),
    CheckConstraint(
        "status IN ('claimed', 'running', 'completed', 'failed', 'timed_out', 'canceled', 'lost', 'suspended')",
        name="status",
    ),
    UniqueConstraint("run_id", "number"),
    _partial("ix_attempts_live", "runner", "lease_until", where=_LIVE),
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
    Column("created_at", Double, nullable=False),
    _partial("ix_checkpoints_value_blob", "value_blob", where="value_blob IS NOT NULL"),
)

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
    _partial("ix_waits_due", "due_at", where="status = 'pending' AND due_at IS NOT NULL"),
    _partial("ix_waits_event", "name", where="status = 'pending' AND kind = 'event'"),
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

runners = Table(
    "runners",
    metadata,
    Column("name", String, primary_key=True),
    Column("memory", BigInteger, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("task_memory", BigInteger),
    Column("pool", Text, nullable=False),
    Column("seen_at", Double, nullable=False),
)

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
    CheckConstraint("scheme IN ('standard', 'github', 'stripe')", name="scheme"),
    Index("ix_webhooks_path", "path"),
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
    CheckConstraint("status IN ('delivered', 'dead')", name="status"),
    UniqueConstraint("project", "path", "sender_id"),
    Index("ix_deliveries_status", "status", "id"),
    Index("ix_deliveries_received", "received_at"),
    _partial("ix_deliveries_body_blob", "body_blob", where="body_blob IS NOT NULL"),
)

secrets = Table(
    "secrets",
    metadata,
    #: Empty: every project's.
    Column("project", String, primary_key=True),
    Column("name", String, primary_key=True),
    #: Which master key sealed it; the value is nowhere.
    Column("key", String(16), nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)

# Written with literals and not with bound values: only so can a database see that a partial index serves.
IS_QUEUED = runs.c.status == literal_column("'queued'")
IS_RUNNING = runs.c.status == literal_column("'running'")
IS_DELAYED = runs.c.status == literal_column("'delayed'")
IS_LIVE = attempts.c.status.in_([literal_column("'claimed'"), literal_column("'running'")])
IS_BUILDING = deployments.c.status == literal_column("'building'")
IS_PENDING = waits.c.status == literal_column("'pending'")
