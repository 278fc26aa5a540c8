"""Where an attempt's time went, and how it came to its container"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("cause", "evicted_by_project", "evicted_by_task", "container"):
        op.add_column("attempts", sa.Column(name, sa.String(), nullable=True))
    op.add_column("attempts", sa.Column("container_run", sa.Integer(), nullable=True))
    for phase in ("queued", "placed", "starting", "importing", "handed", "ran", "reported"):
        op.add_column("attempts", sa.Column(f"{phase}_ms", sa.Double(), nullable=True))
