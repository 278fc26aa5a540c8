"""Checkpoints: written once per run and key, under the lease token of the attempt that made them."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, Table, bindparam, func, insert, select, union_all

from coordinator.access import leases
from coordinator.foundation.errors import TooLarge
from coordinator.foundation.limits import CHECKPOINT_PAGE, MAX_CHECKPOINT_BYTES, MAX_CHECKPOINTS, PRELOAD
from coordinator.storage import quota
from coordinator.storage.prepared import Prepared
from coordinator.storage.tables import checkpoints, runs, waits
from coordinator.storage.values import Stored
from coordinator.waits import waits as waiting


class Kept(NamedTuple):
    """The value that holds for a key, and whether it is the one just given."""

    stored: bool
    value: Stored


_SO_FAR = Prepared(
    select(
        func.max(checkpoints.c.position),
        func.sum(checkpoints.c.size),
        select(func.max(waits.c.position)).where(waits.c.run_id == bindparam("run")).scalar_subquery(),
        select(waits.c.kind)
        .where(waits.c.run_id == bindparam("run"), waits.c.key == bindparam("wanted"))
        .scalar_subquery(),
        select(runs.c.project).where(runs.c.id == bindparam("run")).scalar_subquery(),
    ).where(checkpoints.c.run_id == bindparam("run"))
)
_ADD = Prepared(insert(checkpoints))
_ONE = Prepared(
    select(checkpoints).where(checkpoints.c.run_id == bindparam("run"), checkpoints.c.key == bindparam("wanted"))
)
_SIZES = Prepared(
    select(checkpoints.c.position, checkpoints.c.size)
    .where(checkpoints.c.run_id == bindparam("run"))
    .order_by(checkpoints.c.position)
)


def put(
    conn: Connection, now: float, attempt_id: str, token: int, key: str, value: Stored, took: float | None = None
) -> Kept:
    """Keeps `value`, begun `took` seconds ago, unless the run has the key.

    Raises StaleAttempt and TooLarge, and then nothing is written.
    """
    held = leases.require(conn, now, attempt_id, token)
    row = _find(conn, held.run_id, key)
    if row is not None:
        kept = Stored(row.value, row.value_blob, row.size)
        # the same put sent again after a lost answer is the one that was stored
        return Kept(row.attempt_id == attempt_id and kept == value, kept)
    last, taken, last_wait, kind, project = conn.execute(_SO_FAR, {"run": held.run_id, "wanted": key}).one()
    if kind is not None:
        raise waiting.mixed(key, waiting.describe(kind, None), "a checkpoint")
    if (last or 0) >= MAX_CHECKPOINTS:
        raise TooLarge(
            f"checkpoint {key!r}: the run has {last} checkpoints, which is the limit; put several values into one"
        )
    if int(taken or 0) + value.size > MAX_CHECKPOINT_BYTES:
        raise TooLarge(
            f"checkpoint {key!r}: with its {value.size} bytes the run's checkpoints would take more than "
            f"{MAX_CHECKPOINT_BYTES}; keep the data in a file or a store of your own and its name in the checkpoint"
        )
    quota.check_bytes(conn, now, project, value.size)
    conn.execute(
        _ADD,
        {
            "run_id": held.run_id,
            "key": key,
            "position": max(last or 0, last_wait or 0) + 1,
            "value": value.text,
            "value_blob": value.blob,
            "size": value.size,
            "attempt_id": attempt_id,
            "attempt": held.number,
            "begun_at": None if took is None else _begun(held, now, took),
            "created_at": now,
        },
    )
    return Kept(True, value)


def _begun(held: Row[Any], now: float, took: float) -> float:
    """Within its attempt, whatever its container says."""
    first = held.claimed_at if held.started_at is None else held.started_at
    return min(now, max(float(first), now - took))


def get(conn: Connection, now: float, attempt_id: str, token: int, key: str) -> Stored | None:
    """The stored value of a key of the attempt's run. Raises StaleAttempt."""
    held = leases.require(conn, now, attempt_id, token)
    row = _find(conn, held.run_id, key)
    return None if row is None else Stored(row.value, row.value_blob, row.size)


def listing(
    conn: Connection, now: float, run_id: str, after: int = 0, limit: int = MAX_CHECKPOINTS
) -> tuple[list[Row[Any]], int | None]:
    """A run's checkpoints and waits in the order in which it made them, beginning after the position `after`:
    `limit` of them or CHECKPOINT_PAGE bytes, and the position to go on after where there are more.
    """

    def sizes(table: Table) -> Select[Any]:
        return select(table.c.position, table.c.size).where(table.c.run_id == run_id, table.c.position > after)

    both = union_all(sizes(checkpoints), sizes(waits)).subquery()
    found = conn.execute(select(both).order_by(both.c.position).limit(limit + 1)).all()
    last, total = after, 0
    for position, size in found[:limit]:
        last, total = position, total + size
        if total >= CHECKPOINT_PAGE:
            break
    rows: list[Row[Any]] = []
    for table in (checkpoints, waits):
        in_page = (table.c.run_id == run_id) & (table.c.position > after) & (table.c.position <= last)
        rows += conn.execute(select(table).where(in_page))
    return sorted(rows, key=lambda row: row.position), last if found and found[-1].position > last else None


def preload(conn: Connection, run_id: str) -> tuple[list[tuple[str, Stored]], bool]:
    """The first checkpoints of a run, PRELOAD bytes at most, and whether they are all."""
    sizes = conn.execute(_SIZES, {"run": run_id}).all()
    total, last = 0, 0
    for position, size in sizes:
        total += size
        if total > PRELOAD:
            break
        last = position
    if not last:
        return [], not sizes
    rows = conn.execute(
        select(checkpoints)
        .where(checkpoints.c.run_id == run_id, checkpoints.c.position <= last)
        .order_by(checkpoints.c.position)
    )
    return [(r.key, Stored(r.value, r.value_blob, r.size)) for r in rows], total <= PRELOAD


def _find(conn: Connection, run_id: str, key: str) -> Row[Any] | None:
    return conn.execute(_ONE, {"run": run_id, "wanted": key}).one_or_none()
