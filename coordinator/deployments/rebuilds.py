"""Images that are built again: somebody has removed one from its engine while runs need it.

The runner that misses it says so, and the deployment is open to be built once more from its kept source, under the
same version. That is single-flight: the row of the deployment is the one place where it is asked for and claimed.
Meanwhile its runs are parked: they stay in line and no claim takes them. The index stays what it was: runs were
checked against it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, or_, select, update

from coordinator.attempts import attempts as lives
from coordinator.attempts.attempts import Ended
from coordinator.foundation.errors import Conflict, NotFound
from coordinator.foundation.limits import REBUILD_AGAIN, REBUILD_ANYBODY, REBUILD_LONGEST, RUNNER_ALIVE
from coordinator.line import lanes
from coordinator.storage.tables import IS_MISSING, attempts, deployments, runners, runs, tasks
from coordinator.storage.values import encode_small
from coordinator.tasks.index import TaskIndex
from coordinator.wire import FieldProblem, Lost, Problem


def lost(conn: Connection, now: float, attempt: str, body: Lost) -> Ended:
    """The end of an attempt for which there was no image: that is asked for, and the run waits in its old place.

    Raises StaleAttempt, NotFound.
    """
    assert body.missing_image is not None
    held = conn.execute(
        select(attempts.c.runner, attempts.c.claimed_at, runs.c.deployment_id)
        .join_from(attempts, runs, runs.c.id == attempts.c.run_id)
        .where(attempts.c.id == attempt)
    ).one_or_none()
    if held is not None:
        # a claim that was made before the image came back says nothing about the one that is there now
        gone = (deployments.c.finished_at <= held.claimed_at) & (deployments.c.image == body.missing_image)
        _ask(conn, now, held.deployment_id, held.runner, gone & ~IS_MISSING)
    return lives.lost(conn, now, attempt, body)


def ask(conn: Connection, now: float, deployment: str) -> None:
    """Somebody wants the image of a deployment built again, or its next try now. Raises NotFound, Conflict."""
    row = conn.execute(select(deployments).where(deployments.c.id == deployment).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"there is no deployment {deployment!r}")
    if row.status != "ready":
        raise Conflict(
            f"the deployment {row.project} {row.version} is {row.status}: only one that was ready has an image to "
            "build again",
            code="not_ready",
        )
    if row.build_lease is None or row.build_lease <= now:
        _ask(conn, now, deployment, row.rebuild_runner or row.build_runner)


def is_for(now: float, runner: str) -> ColumnElement[bool]:
    """Whether this runner is to build it: the image is wanted where it was missed, while that runner lives."""
    alive = select(runners.c.name).where(runners.c.seen_at > now - RUNNER_ALIVE)
    due = deployments.c.rebuild_due_at
    mine = or_(
        deployments.c.rebuild_runner.is_(None),
        deployments.c.rebuild_runner == runner,
        deployments.c.rebuild_runner.not_in(alive),
        due <= now - REBUILD_ANYBODY,
    )
    return (due <= now) & mine


def compare(conn: Connection, deployment: str, index: TaskIndex) -> tuple[Problem | None, list[str]]:
    """Whether the image built again is that of the deployment, and what of it differs in words.

    It has to have every task, under the name that it is called by. What else differs (a schema that a newer
    version of a dependency writes otherwise) leaves the deployment's index as it was.
    """
    built = {task.id: task for task in index.tasks}
    fields, said = [], []
    for task in conn.execute(select(tasks).where(tasks.c.deployment_id == deployment).order_by(tasks.c.task)):
        now = built.get(task.task)
        if now is None or (now.module, now.name) != (task.module, task.name):
            fields.append(FieldProblem(path=task.task, message=f"{task.module}.{task.name} is not in the image"))
        elif (encode_small(now.json_schema), encode_small(now.options)) != (task.schema, task.options):
            said.append(
                f"the task {task.task} reads otherwise in the image built again; it is kept as it was deployed"
            )
    if not fields:
        return None, said
    message = "the image built again lacks tasks of its deployment: " + "; ".join(f.message for f in fields)
    return Problem(code="index_changed", message=message, fields=fields), said


def over(conn: Connection, deployment: str) -> None:
    """The image is there: the deployment's runs may start again."""
    none = {"rebuild_due_at": None, "rebuild_runner": None, "rebuild_error": None, "image_removed_at": None}
    _set(conn, deployment, rebuild_failures=0, **none)
    lanes.reopen_of(conn, deployment)


def failed(conn: Connection, now: float, row: Row[Any], problem: Problem) -> str:
    """The runs wait on, and it is tried again later: what a build needs may be away only now. What to say of it."""
    pause = min(REBUILD_LONGEST, REBUILD_AGAIN * 2.0 ** min(row.rebuild_failures, 16))
    _set(
        conn,
        row.id,
        rebuild_due_at=now + pause,
        rebuild_failures=row.rebuild_failures + 1,
        rebuild_error=encode_small(problem.model_dump()),
        build_tries=0,
        build_runner=None,
        build_lease=None,
    )
    return f"the image could not be built again; the next try is in {pause:g} s"


def _ask(
    conn: Connection, now: float, deployment: str, runner: str | None, where: ColumnElement[bool] | None = None
) -> None:
    query = update(deployments).where(deployments.c.id == deployment, deployments.c.status == "ready")
    if where is not None:
        query = query.where(where)
    conn.execute(query.values(rebuild_due_at=now, rebuild_runner=runner, build_tries=0, build_lease=None))


def _set(conn: Connection, deployment: str, **values: Any) -> None:
    conn.execute(update(deployments).where(deployments.c.id == deployment).values(**values))
