"""Keys of other roles, and of one project"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # SQLite can't change a table's checks: it is made anew, of what it was
    before = sa.Table(
        "keys",
        sa.MetaData(),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.CheckConstraint("role IN ('admin', 'runner')", name="ck_keys_role"),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sa.UniqueConstraint("hash", name="uq_keys_hash"),
        sa.UniqueConstraint("name", name="uq_keys_name"),
    )
    with op.batch_alter_table("keys", copy_from=before) as keys:
        keys.add_column(sa.Column("project", sa.String(), nullable=True))
        keys.drop_constraint(op.f("ck_keys_role"), type_="check")
        keys.create_check_constraint(op.f("ck_keys_role"), "role IN ('admin', 'runner', 'trigger', 'read')")
