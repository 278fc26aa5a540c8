"""Images that are built again, and idempotency keys that are free again"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("deployments", sa.Column("rebuild_due_at", sa.Double(), nullable=True))
    op.add_column("deployments", sa.Column("rebuild_runner", sa.String(), nullable=True))
    op.add_column("deployments", sa.Column("rebuild_failures", sa.Integer(), server_default="0", nullable=False))
    op.add_column("deployments", sa.Column("rebuild_error", sa.Text(), nullable=True))
    clause = sa.text("rebuild_due_at IS NOT NULL")
    op.create_index(
        "ix_deployments_rebuild", "deployments", ["rebuild_due_at"], sqlite_where=clause, postgresql_where=clause
    )
    op.add_column("runs", sa.Column("key_until", sa.Double(), nullable=True))
    op.add_column("batches", sa.Column("key_until", sa.Double(), nullable=True))
