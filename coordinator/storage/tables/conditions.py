"""Conditions that stand in many statements.

Written with literals and not with bound values: only so can a database see that a partial index serves.
"""

from __future__ import annotations

from sqlalchemy import literal_column, select

from coordinator.storage.tables.deployments import deployments
from coordinator.storage.tables.runs import attempts, runs
from coordinator.storage.tables.waits import waits

IS_QUEUED = runs.c.status == literal_column("'queued'")
IS_RUNNING = runs.c.status == literal_column("'running'")
IS_DELAYED = runs.c.status == literal_column("'delayed'")
#: Where it is said beside other conditions on the status, ix_runs_task_status serves.
NOT_COMPLETED = runs.c.status != literal_column("'completed'")
IS_LIVE = attempts.c.status.in_([literal_column("'claimed'"), literal_column("'running'")])
#: Its image is gone, and not built again yet.
IS_MISSING = deployments.c.rebuild_due_at.is_not(None)
IS_BUILDING = (deployments.c.status == literal_column("'building'")) | IS_MISSING
#: Runs that no claim takes, because the image of their deployment is gone.
IS_PARKED = runs.c.deployment_id.in_(select(deployments.c.id).where(IS_MISSING))
IS_PENDING = waits.c.status == literal_column("'pending'")
