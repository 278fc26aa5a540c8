"""What runners had better have ready: containers of tasks that were deployed a moment ago, or are about to be due.

Each runner is told of all of them, and knows by itself which of the tasks have run there lately.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, bindparam, func, select

from coordinator.foundation.limits import RUNNER_ALIVE
from coordinator.storage.tables import deployments, projects, runners, schedules, tasks

#: Seconds after a promotion, and before a tick, in which a container is wished for.
_AFTER_DEPLOY = 60.0
_BEFORE_TICK = 30.0
#: Wishes that one heartbeat's answer has, of each kind.
_MOST = 50


class Ahead(NamedTuple):
    """A task of which a container had better be ready. `row`: `project`, `task`, `image`, `options`."""

    id: str
    why: str
    row: Row[Any]
    within: float
    here: bool


_TASK = (
    select(projects.c.name.label("project"), tasks.c.task, tasks.c.options, deployments.c.image)
    .join_from(projects, deployments, deployments.c.id == projects.c.current_deployment)
    .join(tasks, tasks.c.deployment_id == deployments.c.id)
    .where(deployments.c.image.is_not(None), deployments.c.image_removed_at.is_(None))
    .limit(_MOST)
)
_DEPLOYED: Select[Any] = (
    _TASK.add_columns(deployments.c.id.label("deployment"), projects.c.promoted_at)
    .where(projects.c.promoted_at > bindparam("since"))
    .order_by(projects.c.promoted_at.desc(), tasks.c.task)
)
_DUE: Select[Any] = (
    _TASK.add_columns(schedules.c.id.label("schedule"), schedules.c.next_at)
    .join(schedules, (schedules.c.project == projects.c.name) & (schedules.c.task == tasks.c.task))
    .where(schedules.c.next_at > bindparam("now"), schedules.c.next_at <= bindparam("soon"))
    .order_by(schedules.c.next_at)
)
_FIRST = select(func.min(runners.c.name)).where(
    runners.c.seen_at > bindparam("since"), runners.c.drained_at.is_(None)
)


def wanted(conn: Connection, now: float, runner: str) -> list[Ahead]:
    """What `runner` is to be told of. A tick of a task that ran nowhere is the first live runner's."""
    found = [
        Ahead(f"deploy:{row.deployment}:{row.promoted_at:.0f}:{row.task}", "deploy", row, 10 * _AFTER_DEPLOY, False)
        for row in conn.execute(_DEPLOYED, {"since": now - _AFTER_DEPLOY})
    ]
    due = conn.execute(_DUE, {"now": now, "soon": now + _BEFORE_TICK}).all()
    here = bool(due) and conn.scalar(_FIRST, {"since": now - RUNNER_ALIVE}) == runner
    return found + [
        Ahead(f"tick:{row.schedule}:{row.next_at:.0f}", "tick", row, max(0.0, row.next_at - now), here)
        for row in due
    ]
