"""Builds: a deployment on a runner, under a lease and a token like an attempt's.

The first build of a deployment, and those that bring its image back (`rebuilds`), go the same way.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, func, insert, or_, select, update

from coordinator.deployments import deployments as versions
from coordinator.deployments import rebuilds
from coordinator.foundation.errors import Conflict, Invalid, NotFound
from coordinator.foundation.limits import BUILD_TRIES, LEASE, UNNAMED
from coordinator.sources import events, webhooks
from coordinator.storage.tables import IS_BUILDING, IS_MISSING, build_log, deployments, tasks
from coordinator.storage.values import encode_small
from coordinator.tasks.index import TaskIndex, read_index
from coordinator.wire import Build, BuildDone, BuildFailed, BuildShares, Problem

_LONGEST_LINE = 16 * 1024


class Outcome(NamedTuple):
    """What became of a build: its deployment's id and status."""

    deployment: str
    status: str


def claim(conn: Connection, now: float, runner: str, most: int, shares: BuildShares | None = None) -> list[Build]:
    """Deployments that wait to be built: `most` less those the runner is building.

    Projects take turns: next is the one whose build began longest ago, with its oldest deployment. With `shares`,
    no project holds more of the runner's builds than its own, so that one that hangs leaves place for others.
    """
    building = (IS_BUILDING) & (deployments.c.build_lease > now)
    query = select(deployments.c.project, func.count().label("held")).where(
        deployments.c.build_runner == runner, building
    )
    held = {row.project: row.held for row in conn.execute(query.group_by(deployments.c.project))}
    free = most - sum(held.values())
    if free <= 0:
        return []
    waiting: dict[str, list[Row[Any]]] = {}
    for row in conn.execute(_waiting(now, runner, free)):
        waiting.setdefault(row.project, []).append(row)
    served = _served(conn, list(waiting))
    taken: list[Build] = []
    while waiting and len(taken) < free:
        project = min(waiting, key=lambda name: (served[name], waiting[name][0].created_at, name))
        if shares is not None and held.get(project, 0) >= shares.of(project):
            del waiting[project]
            continue
        row = waiting[project].pop(0)
        if not waiting[project]:
            del waiting[project]
        if (build := _take(conn, now, runner, row)) is not None:
            taken.append(build)
            held[project] = held.get(project, 0) + 1
            # of those that are served in one claim, the later counts as later
            served[project] = now + len(taken)
    return taken


def _waiting(now: float, runner: str, most: int) -> Select[Any]:
    """The `most` oldest of every project: one that deploys a thousand times hides nobody's."""
    place = func.row_number().over(partition_by=deployments.c.project, order_by=deployments.c.created_at)
    found = (
        select(
            deployments.c.id,
            deployments.c.project,
            deployments.c.version,
            deployments.c.created_at,
            deployments.c.build_token,
            deployments.c.build_tries,
            place.label("place"),
        )
        .where(
            IS_BUILDING,
            or_(deployments.c.build_lease.is_(None), deployments.c.build_lease <= now),
            deployments.c.build_tries < BUILD_TRIES,
            or_(~IS_MISSING, rebuilds.is_for(now, runner)),
        )
        .subquery()
    )
    return select(found).where(found.c.place <= most).order_by(found.c.created_at)


def _served(conn: Connection, projects: list[str]) -> dict[str, float]:
    """When a build of each project began last; 0 where none has."""
    served = dict.fromkeys(projects, 0.0)
    # by hundreds: a statement takes only so many parameters
    for start in range(0, len(projects), 500):
        last = func.max(deployments.c.build_claimed_at).label("last")
        query = select(deployments.c.project, last).where(deployments.c.project.in_(projects[start : start + 500]))
        for row in conn.execute(query.group_by(deployments.c.project)):
            served[row.project] = row.last or 0.0
    return served


def _take(conn: Connection, now: float, runner: str, row: Row[Any]) -> Build | None:
    """The build of a deployment that waits; None where another coordinator gave it away meanwhile."""
    token = row.build_token + 1
    done = conn.execute(
        update(deployments)
        .where(
            deployments.c.id == row.id,
            deployments.c.build_token == row.build_token,
            IS_BUILDING,
            or_(deployments.c.build_lease.is_(None), deployments.c.build_lease <= now),
        )
        .values(
            build_runner=runner,
            build_token=token,
            build_tries=row.build_tries + 1,
            build_claimed_at=now,
            build_lease=now + LEASE,
        )
    )
    if done.rowcount == 0:
        return None
    return Build(deployment=row.id, token=token, project=row.project, version=row.version, lease=LEASE)


def source(conn: Connection, now: float, deployment: str) -> str:
    """The name of the blob with a deployment's source."""
    name: str | None = conn.scalar(select(deployments.c.source_blob).where(deployments.c.id == deployment))
    if name is None:
        raise NotFound(f"there is no deployment {deployment!r}")
    return name


def add_log(conn: Connection, now: float, deployment: str, token: int, lines: list[str]) -> None:
    """Raises Conflict (`stale_build`) and NotFound, as every write of a build."""
    _require(conn, now, deployment, token)
    _append(conn, now, deployment, lines)


def read(body: BuildDone) -> TaskIndex | Invalid:
    """The index that a build ended with, or what is wrong with it. It may take long: not for a transaction."""
    try:
        return read_index(body.index)
    except Invalid as error:
        return error


def done(
    conn: Connection, now: float, deployment: str, body: BuildDone, index: TaskIndex | Invalid | None = None
) -> Outcome:
    """The image is there: the deployment becomes ready, and current where that was asked for.

    `index`: what `read` gave. An index that cannot be used makes it a failed deployment, with the places named.
    """
    project = conn.scalar(select(deployments.c.project).where(deployments.c.id == deployment))
    versions.lock(conn, project or "")
    row = _row(conn, deployment)
    if row.status == "ready" and row.build_token == body.token and row.image == body.image and not _missing(row):
        return Outcome(deployment, "ready")
    row = _require(conn, now, deployment, body.token)
    index = index or read(body)
    if isinstance(index, Invalid):
        return _fail(conn, now, row, index.problem())
    if _missing(row):
        problem, said = rebuilds.compare(conn, deployment, index)
        _append(conn, now, deployment, said)
        if problem is not None:
            return _fail(conn, now, row, problem)
    # the same image may have been that of an earlier version, which has it again
    conn.execute(update(deployments).where(deployments.c.image == body.image).values(image_removed_at=None))
    _close(conn, now, row, status="ready", image=body.image, sdk=index.sdk, python=index.python, error=None)
    if _missing(row):
        rebuilds.over(conn, deployment)
        return Outcome(deployment, "ready")
    conn.execute(
        insert(tasks),
        [
            {
                "deployment_id": deployment,
                "task": task.id,
                "module": task.module,
                "name": task.name,
                "doc": task.doc,
                "schema": encode_small(task.json_schema),
                "options": encode_small(task.options),
                "checkpoint_keys": None if task.checkpoints is None else encode_small(task.checkpoints),
            }
            for task in index.tasks
        ],
    )
    events.listen(conn, deployment, index)
    _append(conn, now, deployment, webhooks.offer(conn, deployment, row.project, index))
    if row.promote:
        _append(conn, now, deployment, versions.promote_built(conn, now, row))
    return Outcome(deployment, "ready")


def failed(conn: Connection, now: float, deployment: str, body: BuildFailed) -> Outcome:
    """The build's own account of why there is no image; kept with the deployment."""
    row = _row(conn, deployment)
    ended = row.status == "failed" or (row.rebuild_error is not None and row.build_lease is None)
    if ended and row.build_token == body.token:
        return Outcome(deployment, row.status)
    return _fail(conn, now, _require(conn, now, deployment, body.token), body.error)


def lost(conn: Connection, now: float, deployment: str, token: int) -> Outcome | None:
    """The runner has gone: the build may be claimed again, or fails when that happened too often.

    None where it was no longer that runner's.
    """
    row = _row(conn, deployment)
    if not _open(row) or row.build_token != token or row.build_runner is None:
        return None
    if row.build_tries >= BUILD_TRIES:
        problem = Problem(
            code="build_lost",
            message=f"the runner was lost {row.build_tries} times while it built this; "
            "see whether the build takes more memory than the runner's host has, and deploy again",
        )
        return _fail(conn, now, row, problem)
    conn.execute(
        update(deployments)
        .where(deployments.c.id == deployment, deployments.c.build_token == token)
        .values(build_runner=None, build_lease=None)
    )
    _append(conn, now, deployment, ["the runner was lost; the build waits for another"])
    return Outcome(deployment, row.status)


def lapsed(conn: Connection, now: float) -> list[Row[Any]]:
    """Builds (`id`, `build_token`) whose lease has run out."""
    query = select(deployments.c.id, deployments.c.build_token).where(IS_BUILDING, deployments.c.build_lease <= now)
    return list(conn.execute(query))


def unnamed(conn: Connection, now: float, runner: str, named: set[str]) -> list[Row[Any]]:
    """Builds (`id`, `build_token`) believed with the runner that its heartbeat does not name."""
    query = select(deployments.c.id, deployments.c.build_token).where(
        deployments.c.build_runner == runner,
        IS_BUILDING,
        deployments.c.build_claimed_at < now - UNNAMED,
    )
    if named:
        query = query.where(deployments.c.id.not_in(named))
    return list(conn.execute(query))


def _row(conn: Connection, deployment: str) -> Row[Any]:
    row = conn.execute(select(deployments).where(deployments.c.id == deployment).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"there is no deployment {deployment!r}")
    return row


def _require(conn: Connection, now: float, deployment: str, token: int) -> Row[Any]:
    row = _row(conn, deployment)
    lease = row.build_lease
    if not _open(row) or row.build_token != token or lease is None or lease <= now:
        raise Conflict(
            f"the build of {row.project} {row.version} is not this runner's any more; nothing was written",
            code="stale_build",
        )
    return row


def _missing(row: Row[Any]) -> bool:
    """Whether it was built once, and its image is gone."""
    return row.rebuild_due_at is not None


def _open(row: Row[Any]) -> bool:
    return row.status == "building" or _missing(row)


def _fail(conn: Connection, now: float, row: Row[Any], problem: Problem) -> Outcome:
    if _missing(row):
        again = rebuilds.failed(conn, now, row, problem)
        _append(conn, now, row.id, [*problem.message.splitlines(), again])
        return Outcome(row.id, row.status)
    _close(conn, now, row, status="failed", error=encode_small(problem.model_dump()))
    _append(conn, now, row.id, problem.message.splitlines())
    return Outcome(row.id, "failed")


def _close(conn: Connection, now: float, row: Row[Any], **values: Any) -> None:
    conn.execute(
        update(deployments)
        .where(deployments.c.id == row.id, deployments.c.build_token == row.build_token)
        .values(finished_at=now, build_lease=None, **values)
    )


def _append(conn: Connection, now: float, deployment: str, lines: list[str]) -> None:
    if not lines:
        return
    last = conn.scalar(select(func.max(build_log.c.seq)).where(build_log.c.deployment_id == deployment)) or 0
    conn.execute(
        insert(build_log),
        [
            {
                "deployment_id": deployment,
                "seq": last + n,
                "at": now,
                "line": line.replace("\x00", "\ufffd")[:_LONGEST_LINE],
            }
            for n, line in enumerate(lines, 1)
        ],
    )
