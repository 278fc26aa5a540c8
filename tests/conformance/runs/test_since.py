"""Runs since a time: those that are older are not read past, however many there are."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import Connection

from coordinator.foundation import ids
from coordinator.runs import runs
from coordinator.runs.runs import Filter
from coordinator.storage.tables import runs as table
from tests.conformance import plans
from tests.conformance.bulk import insert_many
from tests.conformance.store import Store

MANY = 5_000
MINUTE = 60.0


@pytest.fixture
def old(store: Store) -> Store:
    """One run a minute, all of which have completed but every tenth, and the last one now."""
    store.deploy()
    template = dict(store.trigger()._mapping) | {"expires_at": None}

    def fill(conn: Connection, now: float) -> None:
        rows = []
        for n in range(MANY):
            made = now - MINUTE * n
            changed = {"id": ids.least("run", made), "created_at": made, "finished_at": made}
            rows.append(template | changed | {"status": "completed" if n % 10 else "failed"})
        insert_many(conn, table, rows)

    store.write(fill)
    return store


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({}, 30 + 1),  # and the template
        ({"statuses": ("completed",)}, 27),
        ({"statuses": ("failed",)}, 3),
        ({"task": "greet", "statuses": ("failed",)}, 3),
        ({"task": "greet", "statuses": ("completed", "queued")}, 28),
        ({"project": "orders", "statuses": ("completed",)}, 27),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_older_ones_are_not_read(old: Store, wanted: dict[str, Any], count: int) -> None:
    since = old.now - 30 * MINUTE + 1
    listed, plan = plans.of_listing(old, Filter(since=since, limit=500, **wanted))
    assert listed == count
    # SQLite: (status=? AND id>?); PostgreSQL: Index Cond: ((id >= '...') AND ...)
    assert re.search(r"SEARCH runs .*\bid\)?>|Index Cond: .*\bid\)?(::text)? >|::text\) > ROW\(", plan), plan


def test_what_an_hour_of_another_clock_has_named_is_found(store: Store) -> None:
    """Runs of earlier versions are named by the process's clock, and created by the database's."""
    store.deploy()
    run = store.trigger().id
    early = ids.least("run", store.now - 3500)
    store.write(lambda conn, now: conn.execute(table.update().where(table.c.id == run).values(id=early)))
    rows, _ = store.read(runs.listing, Filter(since=store.now - 1))
    assert [row.id for row in rows] == [early]
