"""Events, who listens to them, and their runs"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "listeners",
        sa.Column("deployment_id", sa.String(length=40), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("filter", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"], name=op.f("fk_listeners_deployment_id")),
        sa.PrimaryKeyConstraint("deployment_id", "task", "number", name=op.f("pk_listeners")),
    )
    op.create_index("ix_listeners_event", "listeners", ["event", "deployment_id"])
    op.create_table(
        "events",
        sa.Column("key", sa.String(length=40), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_events")),
        sa.UniqueConstraint("project", "id", name=op.f("uq_events_project")),
    )
    op.create_index("ix_events_name", "events", ["name", "created_at"])
    op.create_table(
        "event_runs",
        sa.Column("event", sa.String(length=40), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(length=40), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["event"], ["events.key"], name=op.f("fk_event_runs_event")),
        sa.PrimaryKeyConstraint("event", "project", "task", name=op.f("pk_event_runs")),
    )
