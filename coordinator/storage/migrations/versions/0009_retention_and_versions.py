"""What retention looks rows up by, and what a deployment was found to break"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def _index(name: str, table: str, column: str) -> None:
    clause = sa.text(f"{column} IS NOT NULL")
    op.create_index(name, table, [column], sqlite_where=clause, postgresql_where=clause)


def upgrade() -> None:
    op.add_column("deployments", sa.Column("force", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("deployments", sa.Column("findings", sa.Text(), nullable=True))
    op.add_column("deployments", sa.Column("image_removed_at", sa.Double(), nullable=True))
    op.add_column("tasks", sa.Column("checkpoint_keys", sa.Text(), nullable=True))
    op.create_index("ix_batches_created_at", "batches", ["created_at"])
    op.create_index("ix_runs_deployment", "runs", ["deployment_id", "task", "status"])
    _index("ix_runs_finished", "runs", "finished_at")
    _index("ix_runs_payload_blob", "runs", "payload_blob")
    _index("ix_runs_result_blob", "runs", "result_blob")
    op.create_index("ix_run_tags_run_id", "run_tags", ["run_id"])
    op.create_index("ix_ticks_run_id", "ticks", ["run_id"])
    op.create_index("ix_events_created_at", "events", ["created_at"])
    _index("ix_deliveries_body_blob", "deliveries", "body_blob")
    with op.batch_alter_table("checkpoints") as checkpoints:
        checkpoints.drop_constraint(op.f("fk_checkpoints_attempt_id"), type_="foreignkey")
    _index("ix_checkpoints_value_blob", "checkpoints", "value_blob")
