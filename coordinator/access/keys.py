"""Who may call: bearer keys with a role, and the secret of each attempt.

Keys are random and long, so their SHA-256 is kept and looked up as it is. An attempt's secret is not kept at
all: it is an HMAC over the attempt and its token under the server's own secret, and is computed again when
it comes back.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Row, delete, insert, select, update

from coordinator.foundation import files, ids
from coordinator.foundation.errors import Conflict, CoordinatorError, NotFound, invalid_field
from coordinator.storage.tables import IS_BUILDING, IS_LIVE, attempts, deployments, keys, projects, saved_views

Role = Literal["admin", "runner", "trigger", "read"]

#: What stands for a runner in a key that hosts shared, in earlier versions: it lets nobody in any more.
SHARED = "*"

_SECRET_NAME = "server-secret"
_SHORTEST = 16


class Caller(NamedTuple):
    """Whose key a request came with. `project`: the one it sees, None for all."""

    role: Role
    project: str | None
    id: str = ""
    name: str = ""
    #: The one runner it may act as; None until its first use.
    runner: str | None = None


class BadKey(CoordinatorError):
    """A key in the settings cannot be used."""


def hash_key(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def keep_setting(conn: Connection, now: float, key: str | None) -> None:
    """Makes the admin's key from the settings the one of its name; an earlier one stops working.

    Raises BadKey when there is none in the settings and no admin's in the database either.
    """
    name = "settings:admin"
    if key is None:
        found = conn.scalar(select(keys.c.id).where(keys.c.role == "admin", keys.c.revoked_at.is_(None)).limit(1))
        if found is None:
            raise BadKey("no admin key: set SAMOVAR_COORDINATOR_ADMIN_KEY to a long random text")
        return
    if len(key) < _SHORTEST:
        raise BadKey(f"admin_key: {len(key)} characters are too few; take at least {_SHORTEST} random ones")
    hashed = hash_key(key)
    other = conn.execute(select(keys.c.name, keys.c.role).where(keys.c.hash == hashed)).one_or_none()
    if other is not None and other.name != name:
        raise BadKey(f"admin_key: the same key is in use as {other.name!r}; take another")
    values = {"hash": hashed, "revoked_at": None}
    if conn.execute(update(keys).where(keys.c.name == name).values(**values)).rowcount == 0:
        conn.execute(keys.insert().values(id=ids.key(), name=name, role="admin", created_at=now, **values))


def end_shared(conn: Connection, now: float) -> int:
    """Revokes the keys that hosts shared in earlier versions; how many there were."""
    these = (keys.c.runner == SHARED) & keys.c.revoked_at.is_(None)
    return conn.execute(update(keys).where(these).values(revoked_at=now)).rowcount


def caller_of(conn: Connection, now: float, hashed: str) -> Caller | None:
    """Whose a key is that is in force."""
    row = conn.execute(
        select(keys.c.role, keys.c.project, keys.c.id, keys.c.name, keys.c.runner).where(
            keys.c.hash == hashed, keys.c.revoked_at.is_(None)
        )
    ).one_or_none()
    return None if row is None else Caller(*row)


def create(conn: Connection, now: float, name: str, role: Role, project: str | None) -> tuple[Row[Any], str]:
    """A new key: its row, and the key, which is kept nowhere. Raises Conflict (`key_exists`), Invalid, NotFound."""
    if project is not None:
        if role == "runner":
            raise invalid_field("project", "a runner serves every project: leave it out")
        if conn.scalar(select(projects.c.name).where(projects.c.name == project)) is None:
            raise NotFound(f"there is no project {project!r}", code="unknown_project")
    known = conn.execute(select(keys.c.revoked_at).where(keys.c.name == name)).one_or_none()
    if known is not None:
        state = "there is" if known.revoked_at is None else "there was"
        raise Conflict(f"{state} a key {name!r}: take another name", code="key_exists")
    key = f"smv_{secrets.token_urlsafe(32)}"
    values = {"id": ids.key(), "name": name, "role": role, "project": project, "hash": hash_key(key)}
    return conn.execute(insert(keys).values(created_at=now, **values).returning(*keys.c)).one(), key


def listing(conn: Connection, now: float, cursor: str | None, limit: int) -> tuple[list[Row[Any]], str | None]:
    """All, oldest first, and the cursor of the next page."""
    query = select(keys).order_by(keys.c.id).limit(limit + 1)
    if cursor is not None:
        query = query.where(keys.c.id > cursor)
    rows: list[Row[Any]] = list(conn.execute(query))
    more, rows = len(rows) > limit, rows[:limit]
    return rows, rows[-1].id if more else None


def revoke(conn: Connection, now: float, key: str) -> Row[Any]:
    """Ends the key with this id or name. Raises NotFound, Conflict (`key_in_settings`)."""
    row = conn.execute(select(keys).where((keys.c.id == key) | (keys.c.name == key)).limit(1)).one_or_none()
    if row is None:
        raise NotFound(f"there is no key {key!r}")
    if row.name == "settings:admin":
        raise Conflict(
            f"the key {row.name!r} is in the coordinator's settings, and would be back after its next start: "
            "change it there",
            code="key_in_settings",
        )
    this = (keys.c.id == row.id) & keys.c.revoked_at.is_(None)
    if conn.execute(update(keys).where(this).values(revoked_at=now)).rowcount and row.runner not in (None, SHARED):
        # what the host holds is nobody's from now on: no token of its is good, and the sweep gives it to others
        held = (attempts.c.runner == row.runner) & IS_LIVE
        conn.execute(update(attempts).where(held).values(lease_until=now, token=-attempts.c.token))
        built = (deployments.c.build_runner == row.runner) & IS_BUILDING & deployments.c.build_lease.is_not(None)
        conn.execute(update(deployments).where(built).values(build_lease=now))
    conn.execute(delete(saved_views).where(saved_views.c.key_id == row.id))
    return conn.execute(select(keys).where(keys.c.id == row.id)).one()


class AttemptSecrets:
    """Makes and checks the bearer secrets of attempts: `<token>.<hmac>`; and makes the ids of tokens."""

    def __init__(self, data: Path) -> None:
        self._secret = _server_secret(data)

    def make(self, attempt: str, token: int) -> str:
        text = f"{attempt}:{token}".encode()
        return f"{token}.{hmac.new(self._secret, text, hashlib.sha256).hexdigest()}"

    def token_id(self, run: str, key: str) -> str:
        """The id of a token: 160 bits that nobody can guess, and the same whenever its run comes to it again."""
        text = f"token:{run}:{key}".encode()
        return f"tok_{hmac.new(self._secret, text, hashlib.sha256).hexdigest()[:40]}"

    def check(self, attempt: str, secret: str) -> bool:
        token, _, _ = secret.partition(".")
        # isdecimal alone would let other scripts' digits through to int()
        if not (token.isascii() and token.isdecimal() and len(token) <= 18):
            return False
        return hmac.compare_digest(self.make(attempt, int(token)).encode(), secret.encode())


def _server_secret(data: Path) -> bytes:
    path = data / _SECRET_NAME
    if not path.exists():
        files.make_once(path, os.urandom(32))
    secret = path.read_bytes()
    if len(secret) != 32:
        raise BadKey(f"{path} is damaged: it holds {len(secret)} bytes, not 32; remove it to make a new one")
    return secret
