"""The rows of files: announced, taken in part by part, there; and which run may read which.

A reference in a payload or a result is an object with the member `$file`: `{"$file": ID, "name": …, "size": …}`, of
which the id alone is believed.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, func, insert, or_, select, update

from coordinator.access import leases
from coordinator.foundation.errors import Conflict, NotFound, TooLarge, TooMuch, invalid_field
from coordinator.foundation.limits import MAX_RUN_FILES
from coordinator.storage import quota
from coordinator.storage.tables import files, run_files, runs, tasks
from coordinator.tasks.index import stored_options

REFERENCE = "$file"
_ID = re.compile(r"file_[0-9a-f]{32}")
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]{1,63}/[\w!#$&^.+-]{1,63}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}")
#: References that one payload may have.
_MOST = 100


class Announced(NamedTuple):
    """A file that is to come: `sha256` hexadecimal, or None where it is not known beforehand."""

    name: str
    size: int
    sha256: str | None = None
    media_type: str = "application/octet-stream"


def check(announced: Announced, most: int) -> None:
    """Raises Invalid and TooLarge, naming the field."""
    problem = name_problem(announced.name)
    if problem:
        raise invalid_field("name", f"{announced.name[:80]!r} {problem}")
    if announced.size < 0:
        raise invalid_field("size", f"{announced.size}: give the number of its bytes")
    if announced.size > most:
        raise TooLarge(
            f"size: {announced.size} bytes; a file has at most {most} (SAMOVAR_COORDINATOR_FILE_BYTES): send it in "
            "several, or keep it in a store of your own and pass its name"
        )
    if announced.sha256 is not None and not _DIGEST.fullmatch(announced.sha256):
        raise invalid_field("sha256", "64 hexadecimal digits in lower case are wanted")
    if not _MEDIA_TYPE.fullmatch(announced.media_type):
        raise invalid_field("media_type", f"{announced.media_type[:80]!r} is none, such as text/csv")


def name_problem(name: str) -> str | None:
    """Why a file can't have this name, which others will save it under; None where it can."""
    if not 1 <= len(name) <= 255:
        return "has to have 1 to 255 characters"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "has to be a relative path without '.' and '..', such as plots/a.png"
    if "\\" in name or not name.isprintable():
        return "has a character that file names do not have everywhere"
    return None


# ---------------------------------------------------------------- coming in


def announce(conn: Connection, now: float, project: str | None, announced: Announced) -> Row[Any]:
    """A row for a file that is uploaded. Raises TooMuch, DiskFull."""
    if project is not None:
        quota.check_bytes(conn, now, project, announced.size)
    else:
        quota.check_space(conn)
    return _add(conn, now, announced, project=project)


def announce_artifact(
    conn: Connection, now: float, attempt_id: str, token: int, announced: Announced, most: int
) -> Row[Any]:
    """A row for a file that a run keeps, or that of the same file which this attempt has begun to send.

    `most`: bytes of all the files of one run. Raises StaleAttempt, TooLarge, TooMuch, DiskFull.
    """
    held = leases.require(conn, now, attempt_id, token)
    mine = conn.execute(
        select(files).where(
            files.c.run_id == held.run_id,
            files.c.attempt_id == attempt_id,
            files.c.name == announced.name,
            files.c.sha256 == announced.sha256,
            files.c.size == announced.size,
        )
    ).first()
    if mine is not None:
        return mine
    others = (files.c.run_id == held.run_id) & (files.c.name != announced.name)
    count, total = conn.execute(select(func.count(), func.sum(files.c.size)).where(others)).one()
    if count >= MAX_RUN_FILES:
        raise TooMuch(
            f"name: the run keeps {count} files, which is the limit: put several into one archive",
            code="too_many_files",
        )
    if int(total or 0) + announced.size > most:
        raise TooLarge(
            f"size: with its {announced.size} bytes the run's files would take more than {most} "
            "(SAMOVAR_COORDINATOR_RUN_FILE_BYTES)"
        )
    project = conn.scalar(select(runs.c.project).where(runs.c.id == held.run_id))
    quota.check_bytes(conn, now, str(project), announced.size)
    return _add(conn, now, announced, project=project, run_id=held.run_id, attempt_id=attempt_id)


def _add(conn: Connection, now: float, announced: Announced, **values: Any) -> Row[Any]:
    row = {"id": f"file_{secrets.token_hex(16)}", **announced._asdict(), "created_at": now, **values}
    return conn.execute(insert(files).values(**row).returning(*files.c)).one()


def finish(conn: Connection, now: float, file: str, blob: str) -> Row[Any]:
    """All of it is there. An artifact takes the place of an earlier one of its name. Raises NotFound."""
    row = get(conn, now, file)
    if row.finished_at is not None:
        return row
    if row.run_id is not None:
        earlier = (files.c.run_id == row.run_id) & (files.c.name == row.name) & files.c.finished_at.isnot(None)
        gone = conn.execute(select(files.c.id, files.c.size).where(earlier)).one_or_none()
        change = row.size
        if gone is not None:
            change -= gone.size
            conn.execute(delete(run_files).where(run_files.c.file_id == gone.id))
            conn.execute(delete(files).where(files.c.id == gone.id))
        conn.execute(update(runs).where(runs.c.id == row.run_id).values(bytes=runs.c.bytes + change))
    done = update(files).where(files.c.id == file).values(content_blob=blob, sha256=blob, finished_at=now)
    return conn.execute(done.returning(*files.c)).one()


def forget(conn: Connection, now: float, file: str) -> None:
    """What came is not what was announced."""
    conn.execute(delete(files).where(files.c.id == file, files.c.finished_at.is_(None)))


# ---------------------------------------------------------------- there


def get(conn: Connection, now: float, file: str) -> Row[Any]:
    """Raises NotFound."""
    row = conn.execute(select(files).where(files.c.id == file)).one_or_none()
    if row is None:
        raise NotFound(f"there is no file {file[:80]!r}: it is another's, or its time is over")
    return row


def there(row: Row[Any]) -> Row[Any]:
    """The row of a file that can be read. Raises Conflict (`not_there`)."""
    if row.content_blob is None:
        raise Conflict(f"not all of the file {row.id} is there yet", code="not_there")
    return row


def of_run(
    conn: Connection, now: float, run: str, cursor: str | None, limit: int
) -> tuple[list[Row[Any]], str | None]:
    """What a run keeps, by name, and the cursor of the next page. Raises NotFound."""
    its = (files.c.run_id == runs.c.id) & files.c.finished_at.isnot(None)
    if cursor is not None:
        its &= files.c.name > cursor
    # the run itself is in the answer, whether or not it keeps any
    query = select(files).outerjoin_from(runs, files, its).where(runs.c.id == run)
    found = conn.execute(query.order_by(files.c.name).limit(limit + 1)).all()
    if not found:
        raise NotFound(f"there is no run {run[:80]!r}")
    rows = [row for row in found if row.id is not None]
    more, rows = len(rows) > limit, rows[:limit]
    return rows, rows[-1].name if more else None


def named(conn: Connection, now: float, run: str, name: str) -> Row[Any]:
    """A file of a run by its name. Raises NotFound, with the names that are near."""
    query = select(files).where(files.c.run_id == run, files.c.finished_at.isnot(None))
    row = conn.execute(query.where(files.c.name == name)).one_or_none()
    if row is None:
        names = list(conn.scalars(query.with_only_columns(files.c.name).order_by(files.c.name).limit(10)))
        raise NotFound(f"the run {run[:80]} keeps no file {name[:80]!r}; it keeps: {', '.join(names) or 'none'}")
    return row


_OF_RUN: Select[Any] = select(runs.c.id, runs.c.project, tasks.c.options).join(
    tasks, (tasks.c.deployment_id == runs.c.deployment_id) & (tasks.c.task == runs.c.task)
)


def for_attempt(conn: Connection, now: float, attempt_id: str, token: int, file: str) -> Row[Any]:
    """A file that the run of an attempt may read: one that it was given or has made, and, unless its code is not
    trusted, any of its project's. Raises StaleAttempt, NotFound, Conflict (`not_there`).
    """
    held = leases.require(conn, now, attempt_id, token)
    run = conn.execute(_OF_RUN.where(runs.c.id == held.run_id)).one()
    row = get(conn, now, file)
    given = select(run_files.c.run_id).where(run_files.c.run_id == run.id, run_files.c.file_id == file)
    trusted = stored_options(run.options).trust != "untrusted"
    if row.run_id == run.id or (trusted and row.project == run.project) or conn.scalar(given) is not None:
        return there(row)
    raise NotFound(f"there is no file {file[:80]!r}: it is another's, or its time is over")


def mine(conn: Connection, now: float, attempt_id: str, token: int, file: str) -> Row[Any]:
    """A file that this attempt is sending. Raises StaleAttempt, NotFound."""
    leases.require(conn, now, attempt_id, token)
    row = get(conn, now, file)
    if row.attempt_id != attempt_id:
        raise NotFound(f"there is no file {file[:80]!r} of this attempt")
    return row


# ---------------------------------------------------------------- given to runs


def references(value: Any) -> dict[str, str]:
    """The ids of the files that a payload refers to, each with where it stands first. Raises Invalid."""
    found: dict[str, str] = {}
    level: list[tuple[str, Any]] = [("", value)]
    while level:
        inner: list[tuple[str, Any]] = []
        for where, item in level:
            if isinstance(item, dict):
                if REFERENCE in item:
                    id = item[REFERENCE]
                    if not isinstance(id, str) or not _ID.fullmatch(id):
                        raise invalid_field(where or "payload", "is no id of a file: upload one first")
                    found.setdefault(id, where or "payload")
                inner += [(f"{where}.{name}".lstrip("."), value) for name, value in item.items()]
            elif isinstance(item, list):
                inner += [(f"{where}[{number}]", value) for number, value in enumerate(item)]
        level = [(where, item) for where, item in inner if isinstance(item, (dict, list))]
    if len(found) > _MOST:
        raise invalid_field(
            "payload", f"refers to {len(found)} files, {_MOST} at most: put several into one archive"
        )
    return found


def give(conn: Connection, project: str, given: Iterable[tuple[str, dict[str, str]]]) -> None:
    """Keeps, for each run, the files that its payload refers to. Raises Invalid, naming where each stands."""
    rows = [(run, file, where) for run, found in given for file, where in found.items()]
    if not rows:
        return
    known = set(
        conn.scalars(select(files.c.id).where(files.c.id.in_({file for _, file, _ in rows}), _usable(project)))
    )
    for _, file, where in rows:
        if file not in known:
            raise invalid_field(
                where, f"there is no file {file} for the project {project}: it is another's, or its time is over"
            )
    conn.execute(insert(run_files), [{"run_id": run, "file_id": file} for run, file, _ in rows])


def give_again(conn: Connection, old: str, new: str) -> None:
    """Gives a run the files of the earlier one whose payload it has."""
    kept = [{"run_id": new, "file_id": file} for file in conn.scalars(_given(old))]
    if kept:
        conn.execute(insert(run_files), kept)


def take_back(conn: Connection, run: str) -> None:
    """The run has another payload now."""
    conn.execute(delete(run_files).where(run_files.c.run_id == run))


def _given(run: str) -> Select[Any]:
    return select(run_files.c.file_id).where(run_files.c.run_id == run)


def _usable(project: str) -> ColumnElement[bool]:
    return files.c.finished_at.isnot(None) & or_(files.c.project == project, files.c.project.is_(None))
