"""Facts: what ended, and how"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "facts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(40), nullable=False),
        sa.Column("number", sa.Integer()),
        sa.Column("outcome", sa.String(16)),
        sa.Column("status", sa.String(16)),
        sa.Column("reason", sa.String(16)),
        sa.Column("start", sa.String(16)),
        sa.Column("cause", sa.String(16)),
        *(sa.Column(f"{name}_ms", sa.Double()) for name in ("queued", "start", "run", "total")),
        sa.Column("peak_memory", sa.BigInteger()),
        sa.Column("memory_limit", sa.BigInteger()),
        sa.Column("error_type", sa.String()),
        sa.Column("fingerprint", sa.String(16)),
        sa.Column("title", sa.Text()),
        sa.CheckConstraint("kind IN ('attempt', 'run')", name="kind"),
    )
