"""How a database goes about what it is asked, in its own words."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, event

from coordinator.runs import runs
from coordinator.runs.runs import Filter
from tests.conformance.store import Store


def of_listing(store: Store, wanted: Filter) -> tuple[int, str]:
    """How many runs a list has, and the plan by which they are read."""
    seen: list[tuple[str, Any]] = []

    def look(conn: Connection, now: float) -> tuple[int, str]:
        def before(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
            seen.append((statement, parameters))

        event.listen(conn.engine, "before_cursor_execute", before)
        rows, _ = runs.listing(conn, now, wanted)
        event.remove(conn.engine, "before_cursor_execute", before)
        sqlite = conn.dialect.name == "sqlite"
        found = conn.exec_driver_sql(f"{'EXPLAIN QUERY PLAN' if sqlite else 'EXPLAIN'} {seen[0][0]}", seen[0][1])
        return len(rows), "\n".join(row.detail if sqlite else row[0] for row in found)

    return store.read(look)
