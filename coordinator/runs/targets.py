"""Which task a name means: the project, its deployment, and the task's schema and options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, func, select

from coordinator.foundation import sight
from coordinator.foundation.errors import Conflict, NotFound
from coordinator.foundation.near import near as near_names
from coordinator.line import queues
from coordinator.line.queues import Limits
from coordinator.storage import dialect
from coordinator.storage.prepared import Prepared
from coordinator.storage.tables import deployments, projects, tasks
from coordinator.storage.tables import queues as queue_rows
from coordinator.tasks.index import TaskOptions, stored_options


@dataclass(frozen=True)
class Target:
    """A task of one deployment. `schema` is JSON text; `limits` hold for its queue, where that is there already."""

    project: str
    task: str
    deployment: str
    version: str
    schema: str
    options: TaskOptions
    limits: Limits | None


@cache
def _query(dialect_name: str, with_project: bool, with_version: bool) -> Prepared:
    """Built once for each of its forms: it stands before every trigger."""
    declared = dialect.json_text(dialect_name, tasks.c.options, "queue", "name")
    queue = func.coalesce(declared, queues.of_its_own(tasks.c.task))
    query: Select[Any] = (
        select(
            deployments.c.id.label("deployment"),
            deployments.c.project.label("of_project"),
            deployments.c.version,
            deployments.c.image_removed_at,
            tasks.c.schema,
            tasks.c.options,
            queue_rows,
        )
        .join_from(tasks, deployments, tasks.c.deployment_id == deployments.c.id)
        .outerjoin(queue_rows, (queue_rows.c.project == deployments.c.project) & (queue_rows.c.name == queue))
        .where(tasks.c.task == bindparam("wanted"), deployments.c.status == "ready")
        .order_by(deployments.c.project)
    )
    if with_version:
        query = query.where(deployments.c.version == bindparam("version"))
    else:
        query = query.join(projects, projects.c.current_deployment == deployments.c.id)
    return Prepared(query.where(deployments.c.project == bindparam("project")) if with_project else query)


def resolve(conn: Connection, name: str, version: str | None = None) -> Target:
    """The task that `name` (`task` or `project/task`) means, in `version` or the current deployment.

    Raises NotFound (`unknown_task`, with near names; `unknown_version`) and Conflict (`ambiguous_task`,
    `image_removed`).
    """
    project, _, task = name.rpartition("/")
    query = _query(conn.dialect.name, bool(project), version is not None)
    found = conn.execute(query, {"wanted": task, "project": project, "version": version}).all()
    if len(found) > 1:
        choices = [f"{row.of_project}/{task}" for row in found]
        raise Conflict(
            f"several projects have a task {task!r}: name one as {' or '.join(choices)}", code="ambiguous_task"
        )
    if not found:
        raise _unknown(conn, name, project, task, version)
    (row,) = found
    if row.image_removed_at is not None:
        raise image_removed(row.of_project, row.version)
    return Target(
        project=row.of_project,
        task=task,
        deployment=row.deployment,
        version=row.version,
        schema=row.schema,
        options=stored_options(row.options),
        limits=None if row.name is None else queues.read(row),
    )


def image_removed(project: str, version: str) -> Conflict:
    return Conflict(
        f"the image of {project} {version} was removed, because newer versions took its place (the setting "
        "keep_versions): take a newer version, or deploy that source again",
        code="image_removed",
    )


def options(conn: Connection, run: Row[Any]) -> TaskOptions:
    """The options of a run's task, in its own deployment."""
    query = select(tasks.c.options).where(tasks.c.deployment_id == run.deployment_id, tasks.c.task == run.task)
    return stored_options(conn.execute(query).scalar_one())


def _unknown(conn: Connection, name: str, project: str, task: str, version: str | None) -> NotFound:
    current: Sequence[Any] = conn.execute(
        select(deployments.c.project, tasks.c.task)
        .join_from(tasks, deployments, tasks.c.deployment_id == deployments.c.id)
        .join(projects, projects.c.current_deployment == deployments.c.id)
        .limit(2000)
    ).all()
    current = [row for row in current if sight.sees(row.project)]
    if version is not None and any(row.task == task and project in ("", row.project) for row in current):
        return NotFound(
            f"no deployment {version!r} has the task {name!r}: see the project's deployments for its versions",
            code="unknown_version",
        )
    if project and conn.scalar(select(projects.c.name).where(projects.c.name == project)) is not None:
        # of that project alone: whoever asks may see no other
        current = [row for row in current if row.project == project]
    names = sorted({f"{row.project}/{row.task}" if project else row.task for row in current})
    near = near_names(name, names, 3)
    if near:
        hint = f"did you mean {' or '.join(map(repr, near))}?"
    elif names:
        hint = f"deployed are {', '.join(names[:20])}" + (" and more" if len(names) > 20 else "")
    else:
        hint = "nothing is deployed yet"
    return NotFound(f"there is no task {name!r}: {hint}", code="unknown_task")
