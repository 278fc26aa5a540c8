"""Queues, lanes, batches"""

from __future__ import annotations

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _index(name: str, table: str, columns: list[str], where: str, unique: bool = False) -> None:
    clause = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=clause, postgresql_where=clause)


def upgrade() -> None:
    op.create_table(
        "queues",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=True),
        sa.Column("per_key", sa.Integer(), nullable=True),
        sa.Column("rate_limit", sa.Integer(), nullable=True),
        sa.Column("rate_period", sa.Double(), nullable=True),
        sa.Column("rate_excess", sa.String(), nullable=False),
        sa.Column("on_full", sa.String(), nullable=False),
        sa.Column("override", sa.Integer(), nullable=True),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.CheckConstraint("rate_excess IN ('wait', 'refuse')", name=op.f("ck_queues_rate_excess")),
        sa.CheckConstraint(
            "on_full IN ('queue', 'skip', 'cancel_running', 'keep_newest')", name=op.f("ck_queues_on_full")
        ),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name=op.f("fk_queues_project")),
        sa.PrimaryKeyConstraint("project", "name", name=op.f("pk_queues")),
    )
    op.create_table(
        "lanes",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("memory", sa.BigInteger(), nullable=False),
        sa.Column("rank", sa.Double(), nullable=True),
        sa.Column("served_at", sa.Double(), nullable=False),
        sa.Column("opens_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lanes")),
    )
    _index("ix_lanes_turn", "lanes", ["project", "queue", "rank", "id", "memory", "key"], "rank IS NOT NULL")
    _index("ix_lanes_opens", "lanes", ["opens_at"], "opens_at IS NOT NULL")
    _index("ix_lanes_idle", "lanes", ["served_at"], "rank IS NULL AND opens_at IS NULL")
    op.create_table(
        "batches",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("idempotency_key", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("runs", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("project", "task", "idempotency_key", name=op.f("pk_batches")),
    )

    op.add_column("runs", sa.Column("queue", sa.String(), server_default="", nullable=False))
    op.add_column("runs", sa.Column("lane", sa.String(length=32), server_default="", nullable=False))
    op.add_column("runs", sa.Column("rated_at", sa.Double(), nullable=True))
    op.add_column("runs", sa.Column("debounce_key", sa.String(), nullable=True))
    op.add_column("runs", sa.Column("debounce_until", sa.Double(), nullable=True))
    _fill()
    op.drop_index("ix_runs_queue", "runs")
    _index("ix_runs_lane", "runs", ["status", "lane", "order_at", "id", "expires_at"], "status = 'queued'")
    _index("ix_runs_queued", "runs", ["status", "project", "queue", "concurrency_key"], "status = 'queued'")
    _index("ix_runs_running", "runs", ["status", "project", "queue", "concurrency_key"], "status = 'running'")
    _index("ix_runs_rate", "runs", ["project", "queue", "concurrency_key", "rated_at"], "rated_at IS NOT NULL")
    debounced = "status = 'delayed' AND debounce_key IS NOT NULL"
    _index("uq_runs_debounce", "runs", ["project", "task", "debounce_key"], debounced, unique=True)


def _fill() -> None:
    """Every task has a queue of its own, as its runs had one line until now."""
    conn = op.get_bind()
    conn.execute(sa.text("UPDATE runs SET queue = 'task/' || task"))
    add_queue = "INSERT INTO queues (project, name, rate_excess, on_full, paused) "
    conn.execute(
        sa.text(
            add_queue + "SELECT DISTINCT d.project, 'task/' || t.task, 'wait', 'queue', :no FROM tasks t "
            "JOIN deployments d ON d.id = t.deployment_id"
        ).bindparams(sa.bindparam("no", False, sa.Boolean()))
    )
    groups = conn.execute(
        sa.text(
            "SELECT project, task, queue, coalesce(concurrency_key, '') AS key, memory, "
            "min(CASE WHEN status = 'queued' THEN order_at END) AS first FROM runs "
            "WHERE status IN ('queued', 'delayed', 'running', 'waiting') "
            "GROUP BY project, task, queue, coalesce(concurrency_key, ''), memory"
        )
    ).all()
    for project, task, queue, key, memory, first in groups:
        # as coordinator/line/lanes.py names them
        lane = hashlib.sha256(json.dumps([project, queue, task, key, memory]).encode()).hexdigest()[:32]
        conn.execute(
            sa.text(
                "UPDATE runs SET lane = :lane WHERE project = :project AND task = :task AND memory = :memory "
                "AND coalesce(concurrency_key, '') = :key"
            ),
            {"lane": lane, "project": project, "task": task, "memory": memory, "key": key},
        )
        conn.execute(
            sa.text(
                "INSERT INTO lanes (id, project, queue, key, memory, rank, served_at) "
                "VALUES (:id, :project, :queue, :key, :memory, :rank, 0)"
            ),
            {"id": lane, "project": project, "queue": queue, "key": key, "memory": memory, "rank": first},
        )
