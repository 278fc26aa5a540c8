"""What was asked to be done with many runs, and what became of them"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "bulks",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("act", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("filter", sa.Text(), nullable=False),
        sa.Column("version", sa.String()),
        sa.Column("project", sa.String()),
        sa.Column("key_id", sa.String(40), nullable=False),
        sa.Column("key_name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("cursor", sa.String(64), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("expected", "done", "problems")),
        sa.Column("problem", sa.Text()),
        *(sa.Column(f"{name}_at", sa.Double(), nullable=False) for name in ("created", "starts", "progressed")),
        sa.Column("finished_at", sa.Double()),
        sa.CheckConstraint("act IN ('cancel', 'replay', 'dismiss')", name="act"),
        sa.CheckConstraint("status IN ('waiting', 'running', 'done', 'taken_back', 'stopped')", name="status"),
    )
    is_open = sa.text("finished_at IS NULL")
    op.create_index("ix_bulks_open", "bulks", ["starts_at"], sqlite_where=is_open, postgresql_where=is_open)
    op.create_index("ix_bulks_finished_at", "bulks", ["finished_at"])
    op.create_table(
        "bulk_outcomes",
        sa.Column("bulk_id", sa.String(40), sa.ForeignKey("bulks.id"), primary_key=True),
        sa.Column("run_id", sa.String(40), primary_key=True),
        sa.Column("replay", sa.String(40)),
        sa.Column("problem", sa.Text()),
    )
