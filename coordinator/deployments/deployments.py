"""Deployments: versions of a project, and which of them new runs get."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Row,
    Select,
    func,
    insert,
    select,
    union,
    update,
)

from coordinator.deployments import findings
from coordinator.foundation import ids
from coordinator.foundation.errors import Conflict, NotFound
from coordinator.line import queues
from coordinator.runs.targets import image_removed
from coordinator.sources import schedules
from coordinator.storage import dialect
from coordinator.storage.tables import build_log, deployments, projects, tasks
from coordinator.storage.values import decode, encode_small
from coordinator.wire import FieldProblem, Finding

_CURRENT = (projects.c.current_deployment == deployments.c.id).label("current")
_SHOWN = select(deployments, _CURRENT).join_from(deployments, projects, projects.c.name == deployments.c.project)


def create(conn: Connection, now: float, project: str, source_blob: str, promote: bool, force: bool = False) -> str:
    """A deployment that waits for a runner to build it, with the day's next version; its id."""
    conn.execute(
        dialect.insert(conn.dialect.name, projects)
        .values(name=project, current_deployment=None, created_at=now)
        .on_conflict_do_nothing()
    )
    # two deployments of a project at once: the second waits here, and gets the next number
    conn.execute(select(projects.c.name).where(projects.c.name == project).with_for_update())
    day = int(datetime.fromtimestamp(now, UTC).strftime("%Y%m%d"))
    last = conn.scalar(
        select(func.max(deployments.c.number)).where(deployments.c.project == project, deployments.c.day == day)
    )
    number = (last or 0) + 1
    deployment = ids.deployment()
    conn.execute(
        insert(deployments).values(
            id=deployment,
            project=project,
            version=f"{day}.{number}",
            day=day,
            number=number,
            status="building",
            promote=promote,
            force=force,
            source_blob=source_blob,
            build_token=0,
            build_tries=0,
            created_at=now,
        )
    )
    return deployment


def get(conn: Connection, now: float, deployment: str) -> tuple[Row[Any], list[dict[str, Any]]]:
    """The deployment (with `current`) and its tasks, whole."""
    row = conn.execute(_SHOWN.where(deployments.c.id == deployment)).one_or_none()
    if row is None:
        raise NotFound(f"there is no deployment {deployment!r}")
    index = conn.execute(select(tasks).where(tasks.c.deployment_id == deployment).order_by(tasks.c.task))
    return row, [
        {
            "id": t.task,
            "module": t.module,
            "name": t.name,
            "doc": t.doc,
            "schema": decode(t.schema),
            "options": decode(t.options),
        }
        for t in index
    ]


def listing(
    conn: Connection, now: float, project: str | None, cursor: str | None, limit: int
) -> tuple[list[tuple[Row[Any], list[dict[str, Any]]]], str | None]:
    """The newest first, each with its tasks' ids, and the cursor of the next page."""
    query = _SHOWN.order_by(deployments.c.id.desc()).limit(limit + 1)
    if project is not None:
        query = query.where(deployments.c.project == project)
    if cursor is not None:
        query = query.where(deployments.c.id < cursor)
    rows = list(conn.execute(query))
    more, rows = len(rows) > limit, rows[:limit]
    names: dict[str, list[dict[str, Any]]] = {}
    found = conn.execute(
        select(tasks.c.deployment_id, tasks.c.task)
        .where(tasks.c.deployment_id.in_([row.id for row in rows]))
        .order_by(tasks.c.task)
    )
    for deployment, task in found:
        names.setdefault(deployment, []).append({"id": task})
    return [(row, names.get(row.id, [])) for row in rows], rows[-1].id if more else None


def promote(conn: Connection, now: float, deployment: str, force: bool = False) -> None:
    """Makes a ready deployment the one that new runs get.

    Raises NotFound, Conflict (`not_ready`, `image_removed`, and `breaks_runs` with each finding that blocks
    as a field, unless `force`).
    """
    project = conn.scalar(select(deployments.c.project).where(deployments.c.id == deployment))
    if project is None:
        raise NotFound(f"there is no deployment {deployment!r}")
    lock(conn, project)
    row = conn.execute(select(deployments).where(deployments.c.id == deployment)).one()
    if row.status != "ready":
        raise Conflict(
            f"the deployment {row.project} {row.version} is {row.status}: only a ready one can be promoted",
            code="not_ready",
        )
    if row.image_removed_at is not None:
        raise image_removed(row.project, row.version)
    found = findings.check(conn, row)
    blocking = [finding for finding in found if finding.blocks]
    if blocking and not force:
        raise Conflict(
            f"{row.project} {row.version} was not promoted: {'; '.join(f.message for f in blocking)}; "
            "promote it with force if that is meant",
            code="breaks_runs",
            fields=[FieldProblem(path=finding.task, message=finding.message) for finding in blocking],
        )
    _note(conn, deployment, found)
    _promote(conn, now, row.project, deployment)


def promote_built(conn: Connection, now: float, deployment: Row[Any]) -> list[str]:
    """Promotes a deployment that has just become ready, unless a newer one is current already or it breaks
    something for runs that are under way; what whoever deployed it has to know.
    """
    lock(conn, deployment.project)
    found = findings.check(conn, deployment)
    _note(conn, deployment.id, found)
    said = [f"warning: {finding.message}" for finding in found]
    newer = conn.scalar(
        select(deployments.c.id)
        .join_from(deployments, projects, projects.c.current_deployment == deployments.c.id)
        .where(
            projects.c.name == deployment.project,
            (deployments.c.day > deployment.day)
            | ((deployments.c.day == deployment.day) & (deployments.c.number > deployment.number)),
        )
    )
    if newer is not None:
        return said
    if any(finding.blocks for finding in found) and not deployment.force:
        return [*said, f"{deployment.project} {deployment.version} is ready and was not promoted"]
    _promote(conn, now, deployment.project, deployment.id)
    return said


def rollback(conn: Connection, now: float, project: str) -> str:
    """Takes the last promotion back: what was current before it is current again, past what has no image; its id.

    Never refused for what it breaks: who rolls back has something that is broken now.
    """
    lock(conn, project)
    current = conn.execute(
        select(deployments)
        .join_from(deployments, projects, projects.c.current_deployment == deployments.c.id)
        .where(projects.c.name == project)
    ).one_or_none()
    if current is None:
        raise NotFound(f"the project {project!r} has no current deployment")
    before = conn.execute(
        select(deployments)
        .where(
            deployments.c.project == project,
            deployments.c.promotion < current.promotion,
            deployments.c.image_removed_at.is_(None),
        )
        .order_by(deployments.c.promotion.desc())
        .limit(1)
    ).one_or_none()
    if before is None:
        raise Conflict(
            f"no version of the project {project!r} whose image is there was current before {current.version}",
            code="no_earlier_deployment",
        )
    _note(conn, before.id, findings.check(conn, before))
    conn.execute(update(deployments).where(deployments.c.id == current.id).values(promotion=None))
    _set_current(conn, now, project, before.id)
    return str(before.id)


def kept(keep: int) -> CompoundSelect[tuple[str]]:
    """The ids of the `keep` newest ready deployments of each project, and of as many that were current last."""
    newest = (deployments.c.day.desc(), deployments.c.number.desc())
    return union(
        _first(keep, newest, deployments.c.status == "ready"),
        _first(keep, (deployments.c.promotion.desc(),), deployments.c.promotion.is_not(None)),
    )


def _first(keep: int, order: tuple[ColumnElement[Any], ...], which: ColumnElement[bool]) -> Select[tuple[str]]:
    place = func.row_number().over(partition_by=deployments.c.project, order_by=order)
    ranked = select(deployments.c.id, place.label("place")).where(which).subquery()
    return select(ranked.c.id).where(ranked.c.place <= keep)


def read_log(conn: Connection, now: float, deployment: str, after: int, limit: int) -> tuple[list[Row[Any]], bool]:
    """Build log lines after the one numbered `after`, and whether these are the rest of an ended build."""
    status = conn.scalar(select(deployments.c.status).where(deployments.c.id == deployment))
    if status is None:
        raise NotFound(f"there is no deployment {deployment!r}")
    query = select(build_log).where(build_log.c.deployment_id == deployment, build_log.c.seq > after)
    lines = list(conn.execute(query.order_by(build_log.c.seq).limit(limit)))
    return lines, status != "building" and len(lines) < limit


def lock(conn: Connection, project: str) -> None:
    """Two promotions of a project go one after the other, and none beside the removal of its images.

    Taken before any of its deployments is locked.
    """
    conn.execute(select(projects.c.name).where(projects.c.name == project).with_for_update())


def _note(conn: Connection, deployment: str, found: list[Finding]) -> None:
    text = encode_small([finding.model_dump() for finding in found])
    conn.execute(update(deployments).where(deployments.c.id == deployment).values(findings=text))


def _promote(conn: Connection, now: float, project: str, deployment: str) -> None:
    last = select(func.max(deployments.c.promotion)).where(deployments.c.project == project).scalar_subquery()
    conn.execute(
        update(deployments).where(deployments.c.id == deployment).values(promotion=func.coalesce(last, 0) + 1)
    )
    _set_current(conn, now, project, deployment)


def _set_current(conn: Connection, now: float, project: str, deployment: str) -> None:
    conn.execute(
        update(projects).where(projects.c.name == project).values(current_deployment=deployment, promoted_at=now)
    )
    schedules.declare(conn, now, project, deployment)
    queues.declare(conn, project, deployment)
