"""Projects take turns, and have shares of hosts"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "turns",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("served_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("project", name=op.f("pk_turns")),
    )
    op.add_column("runners", sa.Column("shares", sa.Text(), nullable=True))
