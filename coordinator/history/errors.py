"""Groups of errors as they are looked at, and what people say of them: resolved, muted, open again.

Every function is (conn, now, …) → models: the API and the pages call the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, func, or_, select, tuple_, update

from coordinator.foundation.errors import NotFound, invalid_field
from coordinator.foundation.times import iso
from coordinator.history import groups
from coordinator.storage.tables import deployments, errors, projects
from coordinator.storage.values import decode, encode_small
from coordinator.wire import ErrorGroup
from coordinator.wire.history import ErrorStatus

_ORDER = (errors.c.last_seen, errors.c.fingerprint, errors.c.project)


class Wanted(NamedTuple):
    """Which groups. `since`: seen since then; `cursor`: what `listing` gave with the page before."""

    project: str | None = None
    status: ErrorStatus | None = None
    task: str | None = None
    since: float | None = None
    cursor: str | None = None
    limit: int = 50


def listing(conn: Connection, now: float, wanted: Wanted) -> tuple[list[ErrorGroup], str | None]:
    """Those seen last first, and the cursor of the next page. Raises Invalid."""
    query = select(errors).order_by(*(column.desc() for column in _ORDER)).limit(wanted.limit + 1)
    if wanted.project is not None:
        query = query.where(errors.c.project == wanted.project)
    if wanted.status is not None:
        query = query.where(_is(wanted.status, now))
    if wanted.task is not None:
        # a name in a list in JSON, which both databases find in this way, and tell from `Name`
        query = query.where(func.replace(errors.c.tasks, encode_small(wanted.task), "") != errors.c.tasks)
    if wanted.since is not None:
        query = query.where(errors.c.last_seen >= wanted.since)
    if wanted.cursor is not None:
        query = query.where(tuple_(*_ORDER) < tuple_(*_place(wanted.cursor)))
    rows = list(conn.execute(query))
    shown = rows[: wanted.limit]
    more = len(rows) > wanted.limit
    return [group(row, now) for row in shown], _cursor(shown[-1]) if more else None


def get(conn: Connection, now: float, project: str, fingerprint: str) -> ErrorGroup:
    """Raises NotFound."""
    found = conn.execute(select(errors).where(_this(project, fingerprint))).one_or_none()
    if found is None:
        raise _unknown(project, fingerprint)
    return group(found, now)


def resolve(conn: Connection, now: float, project: str, fingerprint: str, version: str | None) -> ErrorGroup:
    """It does not happen any more in `version` (default: the project's current one). Raises NotFound, Invalid."""
    known = select(deployments.c.version).where(deployments.c.project == project)
    if version is None:
        current = select(projects.c.current_deployment).where(projects.c.name == project)
        version = conn.scalar(known.where(deployments.c.id.in_(current)))
    elif conn.scalar(known.where(deployments.c.version == version)) is None:
        raise invalid_field("version", f"{version!r} is no version of {project}: see the project's deployments")
    values = {"resolved_at": now, "resolved_version": version, "reopened_at": None, "muted_until": None}
    return _change(conn, now, project, fingerprint, values)


def mute(conn: Connection, now: float, project: str, fingerprint: str, until: float) -> ErrorGroup:
    """Nobody wants to hear of it until then. Raises NotFound, Invalid."""
    if until <= now:
        raise invalid_field("until", f"{iso(until)} is not after now ({iso(now)})")
    return _change(conn, now, project, fingerprint, {"muted_until": until})


def reopen(conn: Connection, now: float, project: str, fingerprint: str) -> ErrorGroup:
    """It is open, whatever was said of it. Raises NotFound."""
    values = {"resolved_at": None, "resolved_version": None, "reopened_at": now, "muted_until": None}
    return _change(conn, now, project, fingerprint, values)


def group(row: Row[Any], now: float) -> ErrorGroup:
    spark = {int(hour): met for hour, met in decode(row.spark).items()}
    current = int(now // 3600)
    return ErrorGroup(
        project=row.project,
        fingerprint=row.fingerprint,
        status=_status(row, now),
        type=row.error_type,
        title=row.title,
        count=row.count,
        runs=row.runs,
        first_seen=iso(row.first_seen),
        last_seen=iso(row.last_seen),
        last_run=row.last_run,
        last_version=row.last_version,
        tasks=decode(row.tasks),
        versions=decode(row.versions),
        spark=[spark.get(hour, 0) for hour in range(current - groups.SPARK + 1, current + 1)],
        resolved_at=iso(row.resolved_at),
        resolved_version=row.resolved_version,
        reopened_at=iso(row.reopened_at),
        muted_until=iso(row.muted_until),
    )


def _status(row: Row[Any], now: float) -> ErrorStatus:
    if row.resolved_at is not None:
        return "resolved"
    return "muted" if row.muted_until is not None and row.muted_until > now else "open"


def _is(status: ErrorStatus, now: float) -> ColumnElement[bool]:
    unresolved = errors.c.resolved_at.is_(None)
    if status == "resolved":
        return ~unresolved
    if status == "muted":
        return unresolved & (errors.c.muted_until > now)
    return unresolved & or_(errors.c.muted_until.is_(None), errors.c.muted_until <= now)


def _this(project: str, fingerprint: str) -> ColumnElement[bool]:
    return (errors.c.project == project) & (errors.c.fingerprint == fingerprint)


def _change(conn: Connection, now: float, project: str, fingerprint: str, values: dict[str, Any]) -> ErrorGroup:
    changed = conn.execute(
        update(errors).where(_this(project, fingerprint)).values(values).returning(*errors.c)
    ).one_or_none()
    if changed is None:
        raise _unknown(project, fingerprint)
    return group(changed, now)


def _unknown(project: str, fingerprint: str) -> NotFound:
    return NotFound(
        f"there is no error {fingerprint!r} of the project {project!r}: see `error.fingerprint` of its runs; what "
        "ended a moment ago is counted within seconds"
    )


def _cursor(row: Row[Any]) -> str:
    return f"{row.last_seen!r}~{row.fingerprint}~{row.project}"


def _place(cursor: str) -> tuple[float, str, str]:
    seen, _, rest = cursor.partition("~")
    fingerprint, _, project = rest.partition("~")
    try:
        return float(seen), fingerprint, project
    except ValueError:
        raise invalid_field("cursor", f"{cursor[:80]!r} is not what an earlier page gave as `next`") from None
