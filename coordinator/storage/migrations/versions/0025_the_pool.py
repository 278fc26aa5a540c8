"""Containers that have left, how runs begin, and when a deployment became current"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "lives",
        sa.Column("container", sa.String(), primary_key=True),
        sa.Column("runner", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("image", sa.String(), nullable=False),
        sa.Column("memory", sa.BigInteger(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("by_project", sa.String()),
        sa.Column("by_task", sa.String()),
        sa.Column("began_at", sa.Double(), nullable=False),
        sa.Column("left_at", sa.Double(), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("task", sa.String()),
        sa.Column("worth", sa.Double()),
        sa.Column("memory_runs", sa.Text(), nullable=False),
    )
    op.create_index("ix_lives_left", "lives", ["left_at"])
    op.create_index("ix_lives_runner", "lives", ["runner", "left_at"])
    op.create_index("ix_lives_project", "lives", ["project", "left_at"])
    op.create_table(
        "starts",
        sa.Column("runner", sa.String(), primary_key=True),
        sa.Column("slot", sa.String(), primary_key=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("counts", sa.Text(), nullable=False),
    )
    op.create_index("ix_starts_at", "starts", ["at"])
    op.add_column("runners", sa.Column("pool_state", sa.String(), nullable=False, server_default=""))
    op.add_column("projects", sa.Column("promoted_at", sa.Double(), nullable=True))
