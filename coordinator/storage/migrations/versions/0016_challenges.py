"""Webhooks whose sender asks first, more schemes, and the query of a delivery"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("webhooks") as webhooks:
        webhooks.drop_constraint(op.f("ck_webhooks_scheme"), type_="check")
        webhooks.create_check_constraint(
            op.f("ck_webhooks_scheme"), "scheme IN ('standard', 'github', 'stripe', 'slack', 'zoom', 'x')"
        )
        webhooks.add_column(sa.Column("challenge", sa.Text(), nullable=True))
    op.add_column("deliveries", sa.Column("query", sa.Text(), nullable=True))
