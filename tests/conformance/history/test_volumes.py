"""Bytes of logs by project: counted as attempts end and while they go on, and forgotten with their runs' time."""

from __future__ import annotations

from sqlalchemy import select

from coordinator.attempts.claims import Claimed
from coordinator.history import volumes
from coordinator.history.volumes import DAY, Logged
from coordinator.runs import logs
from coordinator.storage.tables import attempts
from coordinator.wire import AttemptLogLine
from tests.conformance.history.test_folding import fold_all
from tests.conformance.store import Store, task_entry

#: Noon of a day.
NOON = 20_834 * 86400.0 + 43200


def write(store: Store, claimed: Claimed, length: int, seq: int = 0) -> None:
    line = AttemptLogLine(seq=seq, at=store.now, level="info", stream="stdout", message="x" * length)
    store.write(logs.append, claimed.attempt, claimed.token, [line])


def size(store: Store, *of: Claimed) -> int:
    query = select(attempts.c.log_bytes).where(attempts.c.id.in_([claimed.attempt for claimed in of]))
    return sum(store.read(lambda conn, now: list(conn.scalars(query))))


def test_logs_are_counted_by_project_while_they_are_written_and_after(store: Store) -> None:
    store.now = NOON
    store.deploy()
    store.deploy(task_entry("mail"), project="post")
    store.deploy(task_entry("silent"), project="quiet")
    first = store.started("greet")
    write(store, first, 1000)
    last = AttemptLogLine(seq=1, at=store.now, level="info", stream="stdout", message="the last word")
    store.complete(first, lines=[last])
    fold_all(store)
    store.now += 2 * DAY
    second, mail = store.started("greet"), store.started("mail")
    write(store, second, 500)
    write(store, mail, 30)
    store.complete(second)
    fold_all(store)
    assert size(store, second) > 500

    def found(keep: float) -> list[Logged]:
        return store.read(volumes.log_bytes, keep)

    orders = Logged("orders", size(store, second), size(store, first, second))
    post = Logged("post", size(store, mail), size(store, mail))
    assert found(30 * DAY) == [orders, post, Logged("quiet", 0, 0)], "what goes on is counted too"
    assert found(0) == found(30 * DAY), "kept for good"
    assert found(DAY)[0] == Logged("orders", size(store, second), size(store, second))
    store.complete(mail)
    fold_all(store)
    assert found(30 * DAY)[1] == post, "once"
