"""What all tables share: the names of their constraints, and their two kinds of partial index."""

from __future__ import annotations

from sqlalchemy import Index, MetaData, text

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)


def partial(name: str, *columns: str, where: str) -> Index:
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


def of_status(name: str, status: str, *columns: str) -> Index:
    """An index of the rows in one status, to be searched by `columns`.

    `status` is its first column, or SQLite takes ix_runs_status and sorts. Where PostgreSQL finds that the index
    holds no other status it does not search by that column, and then by none after it: it would read all of the
    index to find a lane in it. So it is told of one status more, which no row has.
    """
    return Index(
        name,
        "status",
        *columns,
        sqlite_where=text(f"status = '{status}'"),
        postgresql_where=text(f"status IN ('{status}', '')"),
    )
