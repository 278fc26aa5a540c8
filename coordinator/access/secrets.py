"""Secrets: named texts, sealed. They are written, listed by name and removed; nothing gives a value to a caller.

A secret belongs to a project, or to every project (its project is empty); a project's own goes before.
"""

from __future__ import annotations

import re
from typing import Any

import structlog
from sqlalchemy import Connection, Row, delete, func, select, update

from coordinator.access.vault import BadMasterKey, Sealed, Vault
from coordinator.foundation import sight
from coordinator.foundation.errors import NotFound, TooLarge, invalid_field
from coordinator.foundation.limits import MAX_SECRET
from coordinator.storage import dialect, quota
from coordinator.storage.tables import secrets

log = structlog.get_logger()

EVERYWHERE = ""
NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_PROJECT = re.compile(r"[a-z0-9]+(?:[-_.][a-z0-9]+)*")
_SHOWN: list[Any] = [secrets.c.project, secrets.c.name, secrets.c.created_at, secrets.c.updated_at]


def check(project: str, name: str, value: object) -> str:
    """The value, if it can be kept under this name. No message has any of it. Raises Invalid, TooLarge."""
    if not _NAME.fullmatch(name):
        raise invalid_field(
            "name",
            f"{name[:80]!r} is no name of an environment variable: letters, digits and '_', not beginning with a "
            "digit, 128 at most",
        )
    if project != EVERYWHERE and (len(project) > 63 or not _PROJECT.fullmatch(project)):
        raise invalid_field("project", f"{project[:80]!r} is no project name")
    if not isinstance(value, str):
        raise invalid_field("value", "has to be text")
    if not value:
        raise invalid_field("value", "is empty; to have no secret, remove it")
    if "\0" in value:
        raise invalid_field("value", "has a NUL character, which no environment variable can hold")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise invalid_field("value", "has half a surrogate pair, which is not Unicode") from None
    if size > MAX_SECRET:
        raise TooLarge(f"value: {size} bytes, the limit is {MAX_SECRET}")
    return value


def none_sealed(conn: Connection, now: float) -> bool:
    """Whether no secret depends on a master key yet, so that a first one may be made."""
    return conn.execute(select(secrets.c.name).limit(1)).first() is None


def put(conn: Connection, now: float, project: str, name: str, sealed: Sealed) -> tuple[Row[Any], bool]:
    """Stores a secret in the place of an earlier one; what may be shown of it, and whether it is new.

    Raises TooMuch for a new one; one that is there can be changed in any case.
    """
    values = {"key": sealed.key, "nonce": sealed.nonce, "data": sealed.data, "updated_at": now}
    added = conn.execute(
        dialect.insert(conn.dialect.name, secrets)
        .values(project=project, name=name, created_at=now, **values)
        .on_conflict_do_nothing()
        .returning(secrets.c.name)
    ).one_or_none()
    if added is not None and project != EVERYWHERE:
        quota.check_bytes(conn, now, project, len(sealed.data))
    if added is None:
        conn.execute(update(secrets).where(_is(project, name)).values(**values))
    return conn.execute(select(*_SHOWN).where(_is(project, name))).one(), added is not None


def remove(conn: Connection, now: float, project: str, name: str) -> Row[Any]:
    """What was removed. Raises NotFound."""
    row = conn.execute(delete(secrets).where(_is(project, name)).returning(*_SHOWN)).one_or_none()
    if row is None:
        elsewhere = list(conn.scalars(select(secrets.c.project).where(secrets.c.name == name)))
        places = ", ".join(other or "every project" for other in sorted(filter(sight.sees, elsewhere)))
        hint = f"; there is one of {places}" if places else ""
        raise NotFound(f"there is no secret {name!r} of {project or 'every project'}{hint}")
    return row


def listing(
    conn: Connection, now: float, project: str | None, cursor: str | None, limit: int
) -> tuple[list[Row[Any]], str | None]:
    """What a project can use (its own and everybody's), or all; by name, and the cursor of the next page."""
    query = select(*_SHOWN).order_by(secrets.c.name, secrets.c.project).limit(limit + 1)
    if project is not None:
        query = query.where(secrets.c.project.in_((EVERYWHERE, project)))
    if cursor is not None:
        name, _, of = cursor.partition("/")
        query = query.where(
            (secrets.c.name > name) | ((secrets.c.name == name) & (secrets.c.project > of)),
        )
    rows = list(conn.execute(query))
    more, rows = len(rows) > limit, rows[:limit]
    return rows, f"{rows[-1].name}/{rows[-1].project}" if more else None


def find(conn: Connection, project: str, name: str) -> tuple[str, Sealed] | None:
    """The project whose secret it is, and the secret sealed: the project's own, else everybody's."""
    row = conn.execute(
        select(secrets)
        .where(secrets.c.name == name, secrets.c.project.in_((EVERYWHERE, project)))
        .order_by(secrets.c.project.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else (row.project, Sealed(row.key, row.nonce, row.data))


def known(conn: Connection, project: str, names: list[str]) -> set[str]:
    """Those of the names that a project has, of its own or with everybody."""
    if not names:
        return set()
    query = select(secrets.c.name).where(secrets.c.project.in_((EVERYWHERE, project)), secrets.c.name.in_(names))
    return set(conn.scalars(query))


def seal_anew(conn: Connection, now: float, vault: Vault) -> int:
    """Seals with the newest master key what an earlier one has sealed; how many. Raises BadMasterKey."""
    current = vault.current()
    if current is None:
        return 0
    count = 0
    for row in conn.execute(select(secrets).where(secrets.c.key != current).with_for_update()).all():
        try:
            value = vault.open(row.project, row.name, Sealed(row.key, row.nonce, row.data))
        except BadMasterKey as error:
            log.error("a secret cannot be opened", name=row.name, project=row.project, problem=error.message)
            continue
        sealed = vault.seal(row.project, row.name, value)
        values = {"key": sealed.key, "nonce": sealed.nonce, "data": sealed.data}
        conn.execute(update(secrets).where(_is(row.project, row.name)).values(**values))
        count += 1
    return count


def sealed_by_others(conn: Connection, now: float, key: str) -> int:
    """How many secrets another master key than this one has sealed."""
    return int(conn.scalar(select(func.count()).select_from(secrets).where(secrets.c.key != key)) or 0)


def _is(project: str, name: str) -> Any:
    return (secrets.c.project == project) & (secrets.c.name == name)
