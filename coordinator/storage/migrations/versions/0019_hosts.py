"""Keys of one runner, tokens that enrol hosts, and hosts that are drained"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("keys", sa.Column("runner", sa.String(), nullable=True))
    op.create_index("ix_keys_runner", "keys", ["runner"])
    # what was given to several hosts goes on opening for them
    op.execute("UPDATE keys SET runner = '*' WHERE role = 'runner'")
    op.add_column("runners", sa.Column("drained_at", sa.Double(), nullable=True))
    op.create_table(
        "host_tokens",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("used_at", sa.Double(), nullable=True),
        sa.Column("runner", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_host_tokens")),
        sa.UniqueConstraint("hash", name=op.f("uq_host_tokens_hash")),
    )
