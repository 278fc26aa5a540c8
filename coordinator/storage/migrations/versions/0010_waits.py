"""Waits, and runs that have a parent"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def _index(name: str, table: str, columns: list[str], where: str, unique: bool = False) -> None:
    clause = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=clause, postgresql_where=clause)


def upgrade() -> None:
    op.create_table(
        "waits",
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("filter", sa.Text(), nullable=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("awaited", sa.Boolean(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=True),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("value_blob", sa.String(length=64), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=True),
        sa.Column("runs", sa.Text(), nullable=True),
        sa.Column("event", sa.String(length=40), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("resolved_at", sa.Double(), nullable=True),
        sa.CheckConstraint("status IN ('pending', 'done', 'timed_out', 'closed')", name=op.f("ck_waits_status")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_waits_run_id")),
        sa.PrimaryKeyConstraint("run_id", "key", name=op.f("pk_waits")),
    )
    _index("uq_waits_token", "waits", ["token_hash"], "token_hash IS NOT NULL", unique=True)
    _index("ix_waits_due", "waits", ["due_at"], "status = 'pending' AND due_at IS NOT NULL")
    _index("ix_waits_event", "waits", ["name"], "status = 'pending' AND kind = 'event'")

    op.add_column("runs", sa.Column("parent", sa.String(length=40), nullable=True))
    op.add_column("runs", sa.Column("parent_key", sa.String(), nullable=True))
    op.add_column("runs", sa.Column("root", sa.String(length=40), nullable=True))
    op.add_column("runs", sa.Column("depth", sa.Integer(), server_default="0", nullable=False))
    op.add_column("runs", sa.Column("detached", sa.Boolean(), server_default=sa.false(), nullable=False))
    _index("ix_runs_children", "runs", ["parent", "parent_key", "finished_at"], "parent IS NOT NULL")

    with op.batch_alter_table("attempts") as attempts:
        attempts.drop_constraint(op.f("ck_attempts_status"), type_="check")
        attempts.create_check_constraint(
            op.f("ck_attempts_status"),
            "status IN ('claimed', 'running', 'completed', 'failed', 'timed_out', 'canceled', 'lost', 'suspended')",
        )
