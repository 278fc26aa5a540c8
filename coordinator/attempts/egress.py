"""What attempts have reached through their sidecars."""

from __future__ import annotations

import json

from sqlalchemy import Connection, or_, select, update

from coordinator.access import leases
from coordinator.storage.tables import IS_LIVE, attempts
from coordinator.wire import AttemptEgress

#: Seconds after an attempt's end in which its last account is taken: of a container that dies, the sidecar learns
#: when its runner has told the coordinator.
_AFTER = 60.0


def store(conn: Connection, now: float, attempt_id: str, body: AttemptEgress) -> None:
    """Keeps the account of an attempt, in the place of an earlier one. Raises StaleAttempt."""
    row = conn.execute(
        select(attempts.c.egress)
        .where(
            attempts.c.id == attempt_id,
            attempts.c.token == body.token,
            or_(IS_LIVE, attempts.c.finished_at > now - _AFTER),
        )
        .with_for_update()
    ).one_or_none()
    if row is None:
        raise leases.stale(attempt_id)
    hosts = [host.model_dump(exclude_defaults=True) for host in body.hosts]
    text = json.dumps(hosts, ensure_ascii=True, separators=(",", ":")) if hosts else None
    # it takes room as the log does, and is little beside it
    more = len(text or "") - len(row.egress or "")
    conn.execute(
        update(attempts)
        .where(attempts.c.id == attempt_id)
        .values(egress=text, log_bytes=attempts.c.log_bytes + more)
    )
