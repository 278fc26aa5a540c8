"""Which deployments were current, one after the other"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("deployments", sa.Column("promotion", sa.Integer(), nullable=True))
    # As it was until now: every ready version before the current one may be gone back to.
    op.execute(
        """
        UPDATE deployments SET promotion = (
            SELECT count(*) FROM deployments earlier
            WHERE earlier.project = deployments.project AND earlier.status = 'ready'
                AND (earlier.day < deployments.day
                    OR earlier.day = deployments.day AND earlier.number <= deployments.number)
        )
        WHERE status = 'ready' AND EXISTS (
            SELECT 1 FROM projects JOIN deployments current ON current.id = projects.current_deployment
            WHERE projects.name = deployments.project
                AND (current.day > deployments.day
                    OR current.day = deployments.day AND current.number >= deployments.number)
        )
        """
    )
