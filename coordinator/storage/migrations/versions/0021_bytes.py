"""What a project and a tree of runs have"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("bytes", sa.BigInteger(), nullable=False, server_default="0"))
    # near enough: what is in blobs, and in checkpoints and logs, goes with retention
    op.execute("UPDATE runs SET bytes = coalesce(length(payload), 0) + coalesce(length(result), 0)")
    for name, columns, where in (
        ("ix_runs_root", ["root"], "root IS NOT NULL"),
        ("ix_runs_unfinished", ["project"], "finished_at IS NULL"),
    ):
        clause = sa.text(where)
        op.create_index(name, "runs", columns, sqlite_where=clause, postgresql_where=clause)
    op.create_index("ix_runs_bytes", "runs", ["project", "bytes"])
