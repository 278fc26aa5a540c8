"""Saved views: addresses of the dashboard's lists that a key keeps under names of its own.

They belong to the key and not to a session: they are there at the next sign-in, and gone when the key is revoked.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from coordinator.foundation.errors import Conflict, NotFound
from coordinator.storage.tables import keys, saved_views

#: Views of one key.
MOST = 50

_owner = saved_views.c.key_id


def listing(conn: Connection, now: float, key_id: str) -> list[Row[Any]]:
    """A key's, by their names."""
    return list(conn.execute(select(saved_views).where(_owner == key_id).order_by(saved_views.c.name)))


def put(conn: Connection, now: float, key_id: str, name: str, address: str) -> tuple[Row[Any], bool]:
    """The view, in the place of an earlier one of its name, and whether it is new. Raises Conflict (`too_many`)."""
    # of two requests at once each is to see what the other has made
    conn.execute(select(keys.c.id).where(keys.c.id == key_id).with_for_update())
    this = (_owner == key_id) & (saved_views.c.name == name)
    values = {"address": address, "created_at": now}
    changed = conn.execute(update(saved_views).where(this).values(**values).returning(*saved_views.c)).one_or_none()
    if changed is not None:
        return changed, False
    if int(conn.scalar(select(func.count()).select_from(saved_views).where(_owner == key_id)) or 0) >= MOST:
        raise Conflict(f"this key has {MOST} views, which is the limit: remove one first", code="too_many")
    made = insert(saved_views).values(key_id=key_id, name=name, **values).returning(*saved_views.c)
    return conn.execute(made).one(), True


def remove(conn: Connection, now: float, key_id: str, name: str) -> Row[Any]:
    """The view that was. Raises NotFound."""
    this = (_owner == key_id) & (saved_views.c.name == name)
    row = conn.execute(delete(saved_views).where(this).returning(*saved_views.c)).one_or_none()
    if row is None:
        raise NotFound(f"this key has no view {name!r:.100}")
    return row
