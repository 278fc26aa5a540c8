"""Schedules and their ticks"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "schedules",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("cron", sa.String(), nullable=False),
        sa.Column("timezone", sa.String(), nullable=False),
        sa.Column("catchup", sa.String(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=True),
        sa.Column("last_at", sa.Double(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("removed_at", sa.Double(), nullable=True),
        sa.CheckConstraint("catchup IN ('skip', 'all')", name=op.f("ck_schedules_catchup")),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name=op.f("fk_schedules_project")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedules")),
        sa.UniqueConstraint("project", "task", name=op.f("uq_schedules_project")),
    )
    op.create_index("ix_schedules_next", "schedules", ["next_at"])
    op.create_table(
        "ticks",
        sa.Column("schedule_id", sa.String(length=40), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("fired_at", sa.Double(), nullable=False),
        sa.Column("run_id", sa.String(length=40), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_ticks_run_id")),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedules.id"], name=op.f("fk_ticks_schedule_id")),
        sa.PrimaryKeyConstraint("schedule_id", "at", name=op.f("pk_ticks")),
    )
