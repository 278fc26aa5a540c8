"""What attempts have reached through their sidecars."""

from __future__ import annotations

import json

from sqlalchemy import Connection, or_, select, update

from coordinator.access import leases
from coordinator.storage.tables import IS_LIVE, attempts
from coordinator.storage.values import decode
from coordinator.wire import AttemptEgress, EgressHost

#: Seconds after an attempt's end in which its last account is taken: of a container that dies, the sidecar learns
#: when its runner has told the coordinator.
_AFTER = 60.0
_HOSTS = 100
#: As wire.Count.
_MOST_COUNTED = 10**9


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
    known = decode(row.egress) or {"boot": body.boot, "before": [], "hosts": []}
    before = known["before"] if known["boot"] == body.boot else known["hosts"]
    hosts = [
        host.model_dump(exclude_defaults=True)
        for host in _added([*map(EgressHost.model_validate, before), *body.hosts])
    ]
    text = json.dumps({"boot": body.boot, "before": before, "hosts": hosts}, separators=(",", ":"))
    # it takes room as the log does, and is little beside it
    more = len(text) - len(row.egress or "")
    conn.execute(
        update(attempts)
        .where(attempts.c.id == attempt_id)
        .values(egress=text, log_bytes=attempts.c.log_bytes + more)
    )


def _added(hosts: list[EgressHost]) -> list[EgressHost]:
    """Each host and port once, a hundred of them; the rest is summed up."""
    sums: dict[tuple[str, int], EgressHost] = {}
    for host in hosts:
        key = (host.host, host.port)
        if key not in sums and len(sums) >= _HOSTS:
            key = ("others", 0)
        known = sums.setdefault(key, EgressHost(host=key[0], port=key[1]))
        known.connections = min(known.connections + host.connections, _MOST_COUNTED)
        known.refused = min(known.refused + host.refused, _MOST_COUNTED)
        known.sent = min(known.sent + host.sent, 2**53)
        known.received = min(known.received + host.received, 2**53)
        known.seconds = round(known.seconds + host.seconds, 3)
        known.reason = host.reason or known.reason
    return list(sums.values())
