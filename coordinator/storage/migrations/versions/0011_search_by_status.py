"""Indexes of one status that PostgreSQL searches by every column of theirs (tables.py says why)"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_INDEXES = {
    "ix_runs_lane": ("queued", ["lane", "order_at", "id", "expires_at"]),
    "ix_runs_queued": ("queued", ["project", "queue", "concurrency_key"]),
    "ix_runs_running": ("running", ["project", "queue", "concurrency_key"]),
    "ix_runs_due": ("delayed", ["due_at"]),
}


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for name, (status, columns) in _INDEXES.items():
        op.drop_index(name, "runs")
        op.create_index(name, "runs", ["status", *columns], postgresql_where=sa.text(f"status IN ('{status}', '')"))
