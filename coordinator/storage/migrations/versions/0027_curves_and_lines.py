"""The memory of attempts over their time, and how many lines of each level their logs have"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_LEVELS = ("debug", "info", "warning", "error")
#: One pass over the lines there are.
_ATTEMPTS = """
UPDATE attempts
SET log_debug = found.debug, log_info = found.info, log_warning = found.warning, log_error = found.error
FROM (
    SELECT run_id, attempt,
        sum(CASE WHEN level = 'debug' THEN 1 ELSE 0 END) AS debug,
        sum(CASE WHEN level IN ('debug', 'warning', 'error', 'critical') THEN 0 ELSE 1 END) AS info,
        sum(CASE WHEN level = 'warning' THEN 1 ELSE 0 END) AS warning,
        sum(CASE WHEN level IN ('error', 'critical') THEN 1 ELSE 0 END) AS error
    FROM log_lines GROUP BY run_id, attempt
) AS found
WHERE found.run_id = attempts.run_id AND found.attempt = attempts.number
"""
_RUNS = """
UPDATE runs
SET log_debug = found.debug, log_info = found.info, log_warning = found.warning, log_error = found.error
FROM (
    SELECT run_id,
        sum(log_debug) AS debug, sum(log_info) AS info, sum(log_warning) AS warning, sum(log_error) AS error
    FROM attempts WHERE status NOT IN ('claimed', 'running') GROUP BY run_id
) AS found
WHERE found.run_id = runs.id
"""


def upgrade() -> None:
    op.add_column("attempts", sa.Column("curve", sa.Text(), nullable=True))
    for table in ("attempts", "runs"):
        for level in _LEVELS:
            op.add_column(table, sa.Column(f"log_{level}", sa.Integer(), nullable=False, server_default="0"))
    op.execute(_ATTEMPTS)
    op.execute(_RUNS)
