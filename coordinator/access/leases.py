"""The fence: what an attempt must hold to be allowed a write."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from coordinator.foundation.errors import StaleAttempt
from coordinator.storage.prepared import Prepared
from coordinator.storage.tables import IS_LIVE, attempts

_HELD = Prepared(
    select(attempts)
    .where(
        attempts.c.id == bindparam("attempt"),
        attempts.c.token == bindparam("token"),
        IS_LIVE,
        attempts.c.lease_until > bindparam("now"),
    )
    .with_for_update()
)


def require(conn: Connection, now: float, attempt_id: str, token: int) -> Row[Any]:
    """The attempt's row, locked until the transaction ends, so that it cannot lose its lease meanwhile.

    Raises StaleAttempt when the attempt has ended, its lease has run out, or `token` is not its own.
    """
    row = conn.execute(_HELD, {"attempt": attempt_id, "token": token, "now": now}).one_or_none()
    if row is None:
        raise stale(attempt_id)
    return row


def stale(attempt_id: str) -> StaleAttempt:
    return StaleAttempt(
        f"the attempt {attempt_id} does not hold its run any more: it has ended, or its lease ran out; "
        "nothing was written"
    )
