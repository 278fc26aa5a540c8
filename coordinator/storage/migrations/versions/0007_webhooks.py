"""Webhooks and what came in at them"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "webhooks",
        sa.Column("deployment_id", sa.String(length=40), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("secret", sa.String(), nullable=True),
        sa.Column("scheme", sa.String(), nullable=True),
        sa.CheckConstraint("scheme IN ('standard', 'github', 'stripe')", name=op.f("ck_webhooks_scheme")),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"], name=op.f("fk_webhooks_deployment_id")),
        sa.PrimaryKeyConstraint("deployment_id", "path", name=op.f("pk_webhooks")),
    )
    op.create_index("ix_webhooks_path", "webhooks", ["path"])
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("sender_id", sa.String(), nullable=False),
        sa.Column("scheme", sa.String(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("headers", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("body_blob", sa.String(length=64), nullable=True),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=40), nullable=True),
        sa.Column("replays", sa.Integer(), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.CheckConstraint("status IN ('delivered', 'dead')", name=op.f("ck_deliveries_status")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("project", "path", "sender_id", name=op.f("uq_deliveries_project")),
    )
    op.create_index("ix_deliveries_status", "deliveries", ["status", "id"])
    op.create_index("ix_deliveries_received", "deliveries", ["received_at"])
