"""Every table, a file for each noun. Times are seconds since the epoch by the database's clock, memory is bytes.

Columns named `…_blob` hold the name of a blob where the value beside them was too large for the row.
Text columns that hold JSON are written by `values.encode`, never by hand.
"""

from __future__ import annotations

from coordinator.storage.tables.access import (
    audit,
    host_tokens,
    keys,
    saved_views,
    secrets,
    sessions,
    sign_in_links,
)
from coordinator.storage.tables.base import metadata
from coordinator.storage.tables.bulk import bulk_outcomes, bulks
from coordinator.storage.tables.conditions import (
    IS_BUILDING,
    IS_DELAYED,
    IS_LIVE,
    IS_MISSING,
    IS_PARKED,
    IS_PENDING,
    IS_QUEUED,
    IS_RUNNING,
    NOT_COMPLETED,
)
from coordinator.storage.tables.deployments import build_log, deployments, listeners, projects, tasks, webhooks
from coordinator.storage.tables.files import files, run_files
from coordinator.storage.tables.history import errors, facts, history
from coordinator.storage.tables.line import batches, holds, lanes, queues, runners, turns
from coordinator.storage.tables.pool import lives, starts
from coordinator.storage.tables.runs import LOG_LEVELS, attempts, checkpoints, log_lines, run_tags, runs
from coordinator.storage.tables.sources import deliveries, event_runs, events, schedules, ticks
from coordinator.storage.tables.waits import waits

__all__ = [
    "IS_BUILDING",
    "IS_DELAYED",
    "IS_LIVE",
    "IS_MISSING",
    "IS_PARKED",
    "IS_PENDING",
    "IS_QUEUED",
    "IS_RUNNING",
    "LOG_LEVELS",
    "NOT_COMPLETED",
    "attempts",
    "audit",
    "batches",
    "build_log",
    "bulk_outcomes",
    "bulks",
    "checkpoints",
    "deliveries",
    "deployments",
    "errors",
    "event_runs",
    "events",
    "facts",
    "files",
    "history",
    "holds",
    "host_tokens",
    "keys",
    "lanes",
    "listeners",
    "lives",
    "log_lines",
    "metadata",
    "projects",
    "queues",
    "run_files",
    "run_tags",
    "runners",
    "runs",
    "saved_views",
    "schedules",
    "secrets",
    "sessions",
    "sign_in_links",
    "starts",
    "tasks",
    "ticks",
    "turns",
    "waits",
    "webhooks",
]
