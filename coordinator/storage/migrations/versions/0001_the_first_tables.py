"""The first tables"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _index(name: str, table: str, columns: list[str], where: str | None = None) -> None:
    clause = None if where is None else sa.text(where)
    op.create_index(name, table, columns, sqlite_where=clause, postgresql_where=clause)


def upgrade() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.CheckConstraint("role IN ('admin', 'runner')", name=op.f("ck_keys_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keys")),
        sa.UniqueConstraint("hash", name=op.f("uq_keys_hash")),
        sa.UniqueConstraint("name", name=op.f("uq_keys_name")),
    )
    op.create_table(
        "projects",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("current_deployment", sa.String(length=40), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_projects")),
    )
    op.create_table(
        "runners",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("memory", sa.BigInteger(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("task_memory", sa.BigInteger(), nullable=True),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_runners")),
    )
    op.create_table(
        "deployments",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("promote", sa.Boolean(), nullable=False),
        sa.Column("source_blob", sa.String(length=64), nullable=False),
        sa.Column("image", sa.String(), nullable=True),
        sa.Column("sdk", sa.String(), nullable=True),
        sa.Column("python", sa.String(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("build_runner", sa.String(), nullable=True),
        sa.Column("build_token", sa.Integer(), nullable=False),
        sa.Column("build_tries", sa.Integer(), nullable=False),
        sa.Column("build_claimed_at", sa.Double(), nullable=True),
        sa.Column("build_lease", sa.Double(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.CheckConstraint("status IN ('building', 'ready', 'failed')", name=op.f("ck_deployments_status")),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name=op.f("fk_deployments_project")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployments")),
        sa.UniqueConstraint("project", "version", name=op.f("uq_deployments_project")),
    )
    _index("ix_deployments_building", "deployments", ["created_at"], where="status = 'building'")

    op.create_table(
        "build_log",
        sa.Column("deployment_id", sa.String(length=40), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"], name=op.f("fk_build_log_deployment_id")),
        sa.PrimaryKeyConstraint("deployment_id", "seq", name=op.f("pk_build_log")),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("deployment_id", sa.String(length=40), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=True),
        sa.Column("payload_blob", sa.String(length=64), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("result_blob", sa.String(length=64), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("concurrency_key", sa.String(), nullable=True),
        sa.Column("idempotency_key", sa.String(), nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("memory", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("queued_at", sa.Double(), nullable=False),
        sa.Column("order_at", sa.Double(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=True),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("cancel_requested_at", sa.Double(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("ooms", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("current_attempt", sa.String(length=40), nullable=True),
        sa.Column("progress", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.Column("start", sa.String(), nullable=True),
        sa.Column("queued_ms", sa.Double(), nullable=True),
        sa.Column("start_ms", sa.Double(), nullable=True),
        sa.Column("run_ms", sa.Double(), nullable=True),
        sa.Column("peak_memory", sa.BigInteger(), nullable=True),
        sa.Column("memory_limit", sa.BigInteger(), nullable=True),
        sa.Column("trace_id", sa.String(length=32), nullable=False),
        sa.CheckConstraint(
            "status IN ('queued', 'delayed', 'running', 'waiting', "
            "'completed', 'failed', 'canceled', 'timed_out', 'expired')",
            name=op.f("ck_runs_status"),
        ),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"], name=op.f("fk_runs_deployment_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.UniqueConstraint("project", "task", "idempotency_key", name=op.f("uq_runs_project")),
    )
    _index("ix_runs_due", "runs", ["status", "due_at"], where="status = 'delayed'")
    _index("ix_runs_expiry", "runs", ["expires_at"], where="expires_at IS NOT NULL")
    _index("ix_runs_project", "runs", ["project", "id"])
    _index("ix_runs_queue", "runs", ["status", "order_at", "id", "memory", "expires_at"], where="status = 'queued'")
    _index("ix_runs_status", "runs", ["status", "id"])
    _index("ix_runs_task", "runs", ["task", "id"])

    op.create_table(
        "tasks",
        sa.Column("deployment_id", sa.String(length=40), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("module", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("doc", sa.Text(), nullable=True),
        sa.Column("schema", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"], name=op.f("fk_tasks_deployment_id")),
        sa.PrimaryKeyConstraint("deployment_id", "task", name=op.f("pk_tasks")),
    )
    _index("ix_tasks_task", "tasks", ["task"])

    op.create_table(
        "attempts",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("runner", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("memory", sa.BigInteger(), nullable=False),
        sa.Column("start", sa.String(), nullable=True),
        sa.Column("claimed_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.Column("extended", sa.Double(), nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("peak_memory", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("finish_digest", sa.String(length=64), nullable=True),
        sa.CheckConstraint(
            "status IN ('claimed', 'running', 'completed', 'failed', 'timed_out', 'canceled', 'lost')",
            name=op.f("ck_attempts_status"),
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_attempts_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
        sa.UniqueConstraint("run_id", "number", name=op.f("uq_attempts_run_id")),
    )
    _index("ix_attempts_live", "attempts", ["runner", "lease_until"], where="status IN ('claimed', 'running')")

    op.create_table(
        "log_lines",
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("level", sa.String(), nullable=False),
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("logger", sa.String(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_log_lines_run_id")),
        sa.PrimaryKeyConstraint("run_id", "attempt", "seq", name=op.f("pk_log_lines")),
    )
    op.create_table(
        "run_tags",
        sa.Column("tag", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_tags_run_id")),
        sa.PrimaryKeyConstraint("tag", "run_id", name=op.f("pk_run_tags")),
    )
    op.create_table(
        "checkpoints",
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("value_blob", sa.String(length=64), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("attempt_id", sa.String(length=40), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_checkpoints_attempt_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_checkpoints_run_id")),
        sa.PrimaryKeyConstraint("run_id", "key", name=op.f("pk_checkpoints")),
    )
