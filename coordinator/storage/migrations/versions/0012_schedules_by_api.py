"""Schedules made over the API"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("schedules") as table:
        table.add_column(sa.Column("name", sa.String(), server_default="", nullable=False))
        table.add_column(sa.Column("payload", sa.Text(), server_default="{}", nullable=False))
        table.drop_constraint("uq_schedules_project", type_="unique")
        table.create_unique_constraint("uq_schedules_project", ["project", "task", "name"])
