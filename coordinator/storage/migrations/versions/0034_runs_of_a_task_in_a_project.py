"""Runs of a task in one of several projects that have one of its name: found without reading past the others'"""

from __future__ import annotations

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_runs_project_task", "runs", ["project", "task", "id"])
