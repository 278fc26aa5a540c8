"""Sessions of the dashboard: a random cookie that stands for a key, for as long as the key is in force.

What a session may do is looked up with its key at every request: a key that is revoked, or may do less, takes its
sessions with it. Cookies and links are random and long, so their SHA-256 is kept, as that of keys is.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select

from coordinator.access.keys import Caller, hash_key
from coordinator.storage.tables import keys, sessions, sign_in_links

#: Seconds that a session lasts, and that a link may be used.
SESSION = 7 * 86400.0
LINK = 15 * 60.0


class Opened(NamedTuple):
    """A session that has begun: its cookie, which is kept nowhere, and the page that it leads to."""

    cookie: str
    path: str


def open(conn: Connection, now: float, key_id: str) -> str:
    """A session for the key; its cookie."""
    cookie = secrets.token_urlsafe(32)
    values = {"hash": hash_key(cookie), "key_id": key_id, "created_at": now, "expires_at": now + SESSION}
    conn.execute(insert(sessions).values(**values))
    return cookie


def caller_of(conn: Connection, now: float, hashed: str) -> Caller | None:
    """Whose session it is: its key, where that is in force."""
    query = (
        select(keys.c.role, keys.c.project, keys.c.id, keys.c.name, keys.c.runner)
        .join(sessions, sessions.c.key_id == keys.c.id)
        .where(sessions.c.hash == hashed, sessions.c.expires_at > now, keys.c.revoked_at.is_(None))
    )
    row = conn.execute(query).one_or_none()
    return None if row is None else Caller(*row)


def end(conn: Connection, now: float, hashed: str) -> None:
    conn.execute(delete(sessions).where(sessions.c.hash == hashed))


def make_link(conn: Connection, now: float, key_id: str, path: str) -> tuple[str, float]:
    """A link that signs in once, as the key that asked for it: its secret, which is kept nowhere, and its end."""
    secret = secrets.token_urlsafe(32)
    values = {"hash": hash_key(secret), "key_id": key_id, "path": path, "created_at": now, "expires_at": now + LINK}
    conn.execute(insert(sign_in_links).values(**values))
    return secret, now + LINK


def use_link(conn: Connection, now: float, hashed: str) -> Opened | None:
    """The session that a link begins; None where it was used before, is over, or its key was revoked."""
    this = sign_in_links.c.hash == hashed
    row = conn.execute(delete(sign_in_links).where(this).returning(*sign_in_links.c)).one_or_none()
    if row is None or row.expires_at <= now:
        return None
    held = select(keys.c.id).where(keys.c.id == row.key_id, keys.c.revoked_at.is_(None))
    if conn.scalar(held) is None:
        return None
    return Opened(open(conn, now, row.key_id), row.path)
