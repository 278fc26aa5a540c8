"""What the log lines of an attempt take"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("log_bytes", sa.BigInteger(), nullable=False, server_default="0"))
