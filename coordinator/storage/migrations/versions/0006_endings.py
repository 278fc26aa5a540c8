"""Where a run comes from, its whole time, and the dead-letter list"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_DEAD = "dead_at IS NOT NULL"
_DEADLINE = "deadline_at IS NOT NULL"


def upgrade() -> None:
    op.add_column("runs", sa.Column("origin", sa.String(), server_default="api", nullable=False))
    op.add_column("runs", sa.Column("origin_id", sa.String(), nullable=True))
    op.add_column("runs", sa.Column("deadline_at", sa.Double(), nullable=True))
    op.add_column("runs", sa.Column("dead_at", sa.Double(), nullable=True))
    op.execute("UPDATE runs SET dead_at = finished_at WHERE status IN ('failed', 'timed_out')")
    for name, column, where in (("dead", "id", _DEAD), ("deadline", "deadline_at", _DEADLINE)):
        op.create_index(
            f"ix_runs_{name}", "runs", [column], sqlite_where=sa.text(where), postgresql_where=sa.text(where)
        )
