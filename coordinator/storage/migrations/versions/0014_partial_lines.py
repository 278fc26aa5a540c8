"""Log lines that have not ended, and what they become"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("log_lines", sa.Column("partial", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("log_lines", sa.Column("replaces", sa.BigInteger(), nullable=True))
