"""Facts: what ended, and how; history and groups of errors, made of them"""

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
    op.create_table(
        "history",
        sa.Column("project", sa.String(), primary_key=True),
        sa.Column("task", sa.String(), primary_key=True),
        sa.Column("step", sa.String(8), primary_key=True),
        sa.Column("at", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.Column("sums", sa.Text(), nullable=False),
        *(
            sa.Column(name, sa.LargeBinary(), nullable=False)
            for name in ("queued", "start", "run", "total", "memory")
        ),
        sa.CheckConstraint("step IN ('hour', 'day')", name="step"),
    )
    op.create_index("ix_history_step", "history", ["step", "at", "project"])
    op.create_table(
        "errors",
        sa.Column("project", sa.String(), primary_key=True),
        sa.Column("fingerprint", sa.String(16), primary_key=True),
        sa.Column("error_type", sa.String(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("first_seen", sa.Double(), nullable=False),
        sa.Column("last_seen", sa.Double(), nullable=False),
        sa.Column("last_run", sa.String(40), nullable=False),
        sa.Column("last_version", sa.String(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("runs", sa.BigInteger(), nullable=False),
        sa.Column("tasks", sa.Text(), nullable=False),
        sa.Column("versions", sa.Text(), nullable=False),
        sa.Column("spark", sa.Text(), nullable=False),
        sa.Column("resolved_at", sa.Double()),
        sa.Column("resolved_version", sa.String()),
        sa.Column("reopened_at", sa.Double()),
        sa.Column("muted_until", sa.Double()),
    )
    op.create_index("ix_errors_seen", "errors", ["last_seen"])
    op.create_index("ix_errors_project", "errors", ["project", "last_seen"])
