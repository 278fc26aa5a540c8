"""Rows by the ten thousand, as the drivers write them: SQLAlchemy would look at each value of each of them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table


def insert_many(conn: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Writes `rows`, which have the columns of the first; the table is analysed where plans are made of that."""
    names = list(rows[0])
    columns = ", ".join(f'"{name}"' for name in names)
    values = ([row[name] for name in names] for row in rows)
    driver: Any = conn.connection.driver_connection
    if conn.dialect.name == "sqlite":
        driver.executemany(f"INSERT INTO {table.name} ({columns}) VALUES ({', '.join('?' * len(names))})", values)
        return
    with driver.cursor() as cursor:
        with cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy:
            for row in values:
                copy.write_row(row)
        cursor.execute(f"ANALYZE {table.name}")
