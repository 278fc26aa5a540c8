"""What errors are alike: their type and fingerprint, of runs and attempts; runs that have not completed, by task"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("runs", "attempts"):
        op.add_column(table, sa.Column("error_type", sa.String(), nullable=True))
        op.add_column(table, sa.Column("error_fingerprint", sa.String(16), nullable=True))
    for name, columns, where in (
        ("ix_runs_task_status", ["task", "status", "id"], "status <> 'completed'"),
        ("ix_runs_error", ["error_fingerprint", "id"], "error_fingerprint IS NOT NULL"),
        ("ix_runs_error_project", ["error_fingerprint", "project", "id"], "error_fingerprint IS NOT NULL"),
    ):
        op.create_index(name, "runs", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
