"""Files that runs are given and keep"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("project", sa.String()),
        sa.Column("run_id", sa.String(40), sa.ForeignKey("runs.id")),
        sa.Column("attempt_id", sa.String(40)),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("media_type", sa.String(128), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64)),
        sa.Column("content_blob", sa.String(64)),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double()),
    )
    of_run = sa.text("run_id IS NOT NULL AND finished_at IS NOT NULL")
    op.create_index(
        "uq_files_artifact", "files", ["run_id", "name"], unique=True, sqlite_where=of_run, postgresql_where=of_run
    )
    for name, columns, where in (
        ("ix_files_uploaded", ["created_at"], "run_id IS NULL"),
        ("ix_files_unfinished", ["created_at"], "finished_at IS NULL"),
        ("ix_files_content_blob", ["content_blob"], "content_blob IS NOT NULL"),
    ):
        clause = sa.text(where)
        op.create_index(name, "files", columns, sqlite_where=clause, postgresql_where=clause)
    op.create_index("ix_files_project", "files", ["project", "run_id"])
    op.create_table(
        "run_files",
        sa.Column("run_id", sa.String(40), sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("file_id", sa.String(40), sa.ForeignKey("files.id"), primary_key=True),
    )
    op.create_index("ix_run_files_file_id", "run_files", ["file_id"])
