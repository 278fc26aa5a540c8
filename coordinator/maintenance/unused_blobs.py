"""Blobs that no row refers to any more are removed.

A blob is named by its content, so a new value may turn out to be an old blob: whoever puts it there again makes
it young, and so does whoever removes a row that referred to it. Only old ones are looked at, and each is looked
at once more while nobody can find it (`Blobs.remove`).
"""

from __future__ import annotations

import asyncio
import time

import structlog
from sqlalchemy import Connection, select

from coordinator.context import Coordinator
from coordinator.storage.tables import metadata

log = structlog.get_logger()

#: Longer than any transaction that is about to refer to a blob.
GRACE = 3600.0
_BATCH = 500

#: Every column that names a blob, by the rule of coordinator/storage/tables.py.
COLUMNS = frozenset(
    column for table in metadata.sorted_tables for column in table.columns if column.name.endswith("_blob")
)


async def remove(core: Coordinator) -> int:
    """Removes all there are; how many."""
    removed = 0
    before = time.time() - GRACE
    names = await asyncio.to_thread(core.blobs.older, before)
    for start in range(0, len(names), _BATCH):
        if core.waking.closed:
            break
        batch = names[start : start + _BATCH]
        used = await core.database.read(referred_to, batch)
        for name in batch:
            if name not in used:
                removed += await asyncio.to_thread(core.blobs.remove, name, before)
    if removed:
        log.info("removed blobs that nothing refers to", count=removed)
    return removed


def referred_to(conn: Connection, now: float, names: list[str]) -> set[str]:
    """Those of the blobs that some row names."""
    found: set[str] = set()
    for column in COLUMNS:
        found.update(conn.scalars(select(column).where(column.in_(names)).distinct()))
    return found
