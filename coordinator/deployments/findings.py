"""What a deployment changes for runs that are under way and for what calls tasks: seen before it is promoted.

Runs that are under way stay on their version, so nothing here stops one of them. But a task that is gone can't be
triggered by them any more, nor they be replayed on the current version; and a replay does again what a
checkpoint had kept under a name that is gone.
"""

from __future__ import annotations

from typing import Any, get_args

from sqlalchemy import Connection, Row, Select, func, select

from coordinator.access import secrets
from coordinator.storage.tables import deployments, projects, runs, tasks, webhooks
from coordinator.storage.values import decode
from coordinator.tasks.index import stored_options
from coordinator.wire import FINAL, Finding, RunStatus

#: The statuses of runs that have not ended.
UNDER_WAY = [status for status in get_args(RunStatus) if status not in FINAL]
#: Runs are counted no further.
_MOST = 1000
_ANYTHING = "{}"


def check(conn: Connection, deployment: Row[Any]) -> list[Finding]:
    """What the promotion of `deployment` (ready, with its tasks) would change."""
    new = _tasks(conn, deployment.id)
    found: list[Finding] = []
    counted: dict[str, int] = {}
    versions: dict[str, list[str]] = {}
    keys: dict[str, set[str]] = {}
    # the newest first
    for other in _others(conn, deployment):
        for task, row in _tasks(conn, other.id).items():
            under_way = _count(conn, other.id, task)
            if under_way:
                counted[task] = counted.get(task, 0) + under_way
                versions.setdefault(task, []).append(other.version)
                keys.setdefault(task, set()).update(decode(row.checkpoint_keys) or [])
    for task in sorted(counted):
        if task not in new:
            found.append(_task_gone(task, counted[task], versions[task]))
        elif (change := _checkpoints(task, keys[task], new[task], counted[task], versions[task])) is not None:
            found.append(change)
    return found + _callers(conn, deployment, new) + _secrets(conn, deployment.project, new)


def _secrets(conn: Connection, project: str, new: dict[str, Row[Any]]) -> list[Finding]:
    """What the tasks need and nobody has set yet: it may be set before a run asks for it."""
    wanted: dict[str, list[str]] = {}
    for task, row in new.items():
        for name in stored_options(row.options).given_secrets:
            wanted.setdefault(name, []).append(task)
    known = secrets.known(conn, project, list(wanted))
    return [
        Finding(
            task=tasks_of[0],
            kind="secret_missing",
            message=f"the secret {name} of {_listing(tasks_of)} is not set: until it is, their runs fail at once; "
            f"`samovar secrets set {name} --project {project}` reads the value from stdin",
        )
        for name, tasks_of in sorted(wanted.items())
        if name not in known
    ]


def _task_gone(task: str, count: int, versions: list[str]) -> Finding:
    return Finding(
        task=task,
        kind="task_gone",
        message=f"the task {task!r} is not in this version, and {_runs(count)} of it {_are(count)} under way: "
        f"they end on {_listing(versions)}, but can't be replayed on this version, and no other run can trigger it",
        runs=count,
        blocks=True,
    )


def _checkpoints(task: str, old: set[str], row: Row[Any], count: int, versions: list[str]) -> Finding | None:
    new = decode(row.checkpoint_keys)
    if new is None or _ANYTHING in new:
        return None
    gone, added = sorted(old - set(new) - {_ANYTHING}), sorted(set(new) - old)
    if not gone:
        return None
    now_has = f" (new: {_listing(added)})" if added else ""
    return Finding(
        task=task,
        kind="checkpoints_changed",
        message=f"{task} makes no checkpoint {_listing(gone)} any more{now_has}, and {_runs(count)} of it "
        f"{_are(count)} under way: they go on with it on {_listing(versions)}; replayed from a checkpoint on this "
        "version, they would do again what it keeps",
        runs=count,
    )


def _callers(conn: Connection, deployment: Row[Any], new: dict[str, Row[Any]]) -> list[Finding]:
    """Schedules, events and webhooks of the current version that this one does not have."""
    current = conn.scalar(select(projects.c.current_deployment).where(projects.c.name == deployment.project))
    if current is None or current == deployment.id:
        return []
    found: list[Finding] = []
    now_has = {task: stored_options(row.options) for task, row in new.items()}
    for task, row in _tasks(conn, current).items():
        had = stored_options(row.options)
        has = now_has.get(task)
        if had.schedule is not None and (has is None or has.schedule is None):
            message = f"{task} has no schedule any more: it was {had.schedule.cron!r} ({had.schedule.timezone})"
            found.append(Finding(task=task, kind="schedule_gone", message=message))
        heard = {event.name for event in has.on_event} if has is not None else set()
        for name in sorted({event.name for event in had.on_event} - heard):
            message = f"{task} does not listen to the event {name!r} any more"
            found.append(Finding(task=task, kind="event_gone", message=message))
    paths = {id: set[str]() for id in (current, deployment.id)}
    owners: dict[str, str] = {}
    unsigned: set[str] = set()
    for row in conn.execute(select(webhooks).where(webhooks.c.deployment_id.in_(paths))):
        paths[row.deployment_id].add(row.path)
        if row.deployment_id == current:
            owners[row.path] = row.task
            if row.secret is None:
                unsigned.add(row.path)
    for path in sorted(paths[current] - paths[deployment.id]):
        then = "answered 404" if path in unsigned else "kept as dead"
        message = f"the webhook {path!r} is gone: what comes in there is {then} until it is back"
        found.append(Finding(task=owners[path], kind="webhook_gone", message=message))
    return found


def _others(conn: Connection, deployment: Row[Any]) -> list[Row[Any]]:
    """The project's other versions that may have runs under way."""
    query = select(deployments.c.id, deployments.c.version).where(
        deployments.c.project == deployment.project,
        deployments.c.id != deployment.id,
        deployments.c.status == "ready",
        # with a run under way its image would have been kept
        deployments.c.image_removed_at.is_(None),
    )
    return list(conn.execute(query.order_by(deployments.c.day.desc(), deployments.c.number.desc())))


def _tasks(conn: Connection, deployment: str) -> dict[str, Row[Any]]:
    query: Select[Any] = select(tasks.c.task, tasks.c.options, tasks.c.checkpoint_keys)
    return {row.task: row for row in conn.execute(query.where(tasks.c.deployment_id == deployment))}


def _count(conn: Connection, deployment: str, task: str) -> int:
    of_task = (runs.c.deployment_id == deployment) & (runs.c.task == task)
    some = select(runs.c.id).where(of_task, runs.c.status.in_(UNDER_WAY)).limit(_MOST).subquery()
    return int(conn.scalar(select(func.count()).select_from(some)) or 0)


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} or more runs" if count >= _MOST else f"{count} runs"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _listing(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
