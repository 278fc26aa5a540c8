"""Everything that differs between SQLite and PostgreSQL; no other file asks which database it is.

SQLite: WAL with synchronous=FULL, so an acknowledged commit survives a power cut; writers take the lock
when they begin, so that a read-then-write transaction never finds its snapshot overtaken. PostgreSQL:
READ COMMITTED, with the rows that a decision rests on locked FOR UPDATE (SQLite's compiler leaves that
clause out, and needs none).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Dialect,
    Engine,
    LargeBinary,
    Table,
    cast,
    collate,
    create_engine,
    event,
    func,
    inspect,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from coordinator.foundation.errors import CoordinatorError
from coordinator.storage import prepared
from coordinator.storage.folding import AT_THE_LATEST, Folding

#: Concurrent transactions on PostgreSQL, and readers on SQLite.
_POOL = 16
_READERS = 6
#: This process's own writers stand in line before SQLite; only another process can make one wait this long.
_BUSY_MS = 2000

_SQLITE_PRAGMAS = (
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    f"PRAGMA busy_timeout={_BUSY_MS}",
    "PRAGMA temp_store=MEMORY",
    f"PRAGMA wal_autocheckpoint={AT_THE_LATEST}",
)
#: KiB of pages that a connection keeps. They are filled while the database grows, and the process with them: what
#: is not among them is read from the system's cache, which costs a microsecond.
_CACHED, _CACHED_TO_WRITE = 1024, 4096

#: The time and the beginning in one message (decision 9): what stands before a BEGIN is part of its transaction.
_POSTGRESQL_BEGIN = "SELECT extract(epoch FROM clock_timestamp()); BEGIN ISOLATION LEVEL READ COMMITTED"
#: The execution option of a connection whose transactions wait for no lock for long; and what it says.
HURRIES = "hurries"
_HURRY = "; SET LOCAL lock_timeout = '200ms'"
_POSTGRESQL_LIMITS = "SET lock_timeout = '5s'; SET statement_timeout = '30s'"
#: Seconds after which a connection that nobody used is asked whether the server is still there.
_UNUSED = 1.0

#: Any number; the same in every coordinator, so that two that start at once migrate one after the other.
_MIGRATION_LOCK = 0x5A40_7A12
_CLAIMS_LOCK = 0x5A40_7A13
#: The first half of the locks of events; the second is the name's hash.
_EVENT_LOCKS = 0x5A40_7A14
_FOLDING_LOCK = 0x5A40_7A16


class BadDatabaseUrl(CoordinatorError):
    """The database URL names no database this coordinator can use."""


def parse_url(url: str) -> URL:
    """The URL with the driver this project ships. Raises BadDatabaseUrl."""
    try:
        parsed = make_url(url)
    except Exception as error:
        raise BadDatabaseUrl(f"database_url: {error}; give sqlite:///PATH or postgresql://…") from None
    if parsed.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        if not parsed.database or parsed.database == ":memory:":
            raise BadDatabaseUrl("database_url: an SQLite database needs a file: sqlite:///PATH")
        return parsed.set(drivername="sqlite+pysqlite")
    raise BadDatabaseUrl(f"database_url: {parsed.drivername!r} is not known; give sqlite:///PATH or postgresql://…")


def is_sqlite(conn: Connection) -> bool:
    return conn.dialect.name == "sqlite"


#: A host that is gone without a word is noticed after some 20 s, and not after the system's two hours.
_KEEPALIVES = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


def session(url: str) -> dict[str, Any] | None:
    """The arguments of psycopg's connect, for a session of one's own; None for SQLite, which has none to offer."""
    parsed = parse_url(url)
    if not parsed.drivername.startswith("postgresql"):
        return None
    dialect: Dialect = parsed.get_dialect()()
    _, arguments = dialect.create_connect_args(parsed)
    return {**arguments, "connect_timeout": 5, "application_name": "samovar-coordinator", **_KEEPALIVES}


def engines(url: str) -> tuple[Engine, Engine, int]:
    """(reader, writer, threads for them; SQLite's writer has one besides). On PostgreSQL both engines are one."""
    parsed = parse_url(url)
    if parsed.drivername.startswith("postgresql"):
        engine = _postgresql(parsed)
        return engine, engine, _POOL
    reader = _sqlite(parsed, "BEGIN", _CACHED)
    return reader, _sqlite(parsed, "BEGIN IMMEDIATE", _CACHED_TO_WRITE), _READERS


def folding(url: str) -> Folding | None:
    """What is told of each write; None for PostgreSQL, which does it by itself."""
    parsed = parse_url(url)
    if parsed.drivername.startswith("postgresql"):
        return None
    assert parsed.database is not None
    return Folding(parsed.database)


def _postgresql(url: URL) -> Engine:
    # AUTOCOMMIT: the driver begins nothing by itself, since it would take a way to the server and back for that
    engine = create_engine(
        url,
        pool_size=_POOL,
        max_overflow=0,
        pool_timeout=5,
        pool_use_lifo=True,
        isolation_level="AUTOCOMMIT",
        connect_args={
            "connect_timeout": 5,
            "application_name": "samovar-coordinator",
            **_KEEPALIVES,
        },
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, record: object) -> None:
        # not as a startup parameter, which a pooler would refuse
        before, connection.autocommit = connection.autocommit, True
        connection.execute(_POSTGRESQL_LIMITS)
        connection.autocommit = before

    @event.listens_for(engine, "begin")
    def _begun(conn: Connection) -> None:
        begin = _POSTGRESQL_BEGIN + (_HURRY if conn.get_execution_options().get(HURRIES) else "")
        (conn.info["now"],) = prepared.send(conn, begin).fetchone()

    @event.listens_for(engine, "checkin")
    def _checked_in(connection: object, record: ConnectionPoolEntry) -> None:
        record.info["used"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _checked_out(connection: Any, record: ConnectionPoolEntry, proxy: object) -> None:
        # what was used a moment ago needs no question whether it is still there
        if time.monotonic() - record.info.get("used", -_UNUSED) >= _UNUSED:
            try:
                engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.Error as error:
                raise DisconnectionError from error

    return engine


def _sqlite(url: URL, begin: str, cached: int) -> Engine:
    # isolation_level None: the driver begins nothing by itself (it would not for a bare SELECT)
    engine = create_engine(
        url,
        pool_size=_READERS,
        max_overflow=0,
        pool_timeout=5,
        pool_use_lifo=True,
        connect_args={
            "isolation_level": None,
            "check_same_thread": False,
            "timeout": _BUSY_MS / 1000,
            # more than the coordinator has: what is not among them is parsed and planned anew each time
            "cached_statements": 600,
        },
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, record: object) -> None:
        _to_wal(connection)
        for pragma in _SQLITE_PRAGMAS:
            connection.execute(pragma)
        connection.execute(f"PRAGMA cache_size=-{cached}")

    @event.listens_for(engine, "begin")
    def _begun(conn: Connection) -> None:
        prepared.send(conn, begin)

    return engine


def _to_wal(connection: sqlite3.Connection) -> None:
    """Of several that open a new file at once one changes its mode; to the others SQLite says at once: locked."""
    until = time.monotonic() + _BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(0.01)


def now(conn: Connection) -> float:
    """When the transaction began, in seconds since the epoch by the database's clock."""
    if is_sqlite(conn):
        # SQLite's clock is that of the process it lives in
        return time.time()
    return float(conn.info["now"])


@contextmanager
def patience(conn: Connection) -> Iterator[None]:
    """Lets the transaction that begins inside wait for another process's migration as long as that takes."""
    driver: Any = conn.connection.dbapi_connection
    if is_sqlite(conn):
        driver.execute("PRAGMA busy_timeout=600000")
    try:
        yield
    finally:
        if is_sqlite(conn):
            driver.execute(f"PRAGMA busy_timeout={_BUSY_MS}")


def lock_migrations(conn: Connection) -> None:
    """Holds other coordinators back until this transaction ends (SQLite's BEGIN IMMEDIATE has done so)."""
    if not is_sqlite(conn):
        # what holds for requests would break off a large table's migration, and the wait for it
        conn.execute(text("SET LOCAL lock_timeout = 0"))
        conn.execute(text("SET LOCAL statement_timeout = 0"))
        conn.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": _MIGRATION_LOCK})


@contextmanager
def without_references(conn: Connection) -> Iterator[None]:
    """Lets a migration rebuild a table that others refer to: the only way SQLite changes a constraint.

    To be entered before the transaction begins: inside of one SQLite does not listen.
    """
    if not is_sqlite(conn):
        yield
        return
    driver: Any = conn.connection.dbapi_connection
    driver.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys=ON")


def check_references(conn: Connection) -> None:
    """Raises RuntimeError where a migration has left a row that refers to nothing."""
    if is_sqlite(conn) and (lost := conn.exec_driver_sql("PRAGMA foreign_key_check").first()) is not None:
        raise RuntimeError(f"the migration would leave a row of {lost[0]} that refers to no row of {lost[2]}")


def locks_rows(conn: Connection) -> bool:
    """Whether another transaction may write at the same time: SQLite has one writer, and nothing to lock."""
    return not is_sqlite(conn)


def lock_claims(conn: Connection) -> None:
    """Makes claims go one after the other (SQLite has one writer in any case)."""
    if not is_sqlite(conn):
        conn.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": _CLAIMS_LOCK})


def lock_folding(conn: Connection) -> None:
    """Makes those who fold facts go one after the other (SQLite has one writer in any case)."""
    if not is_sqlite(conn):
        conn.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": _FOLDING_LOCK})


def lock_event(conn: Connection, name: str, *, sending: bool) -> None:
    """Keeps the senders of an event and those who begin to wait for it apart, until this transaction ends.

    Senders do not hold each other back, nor do waits; but of a sender and a wait one sees what the other wrote.
    Taken before the first write (SQLite has one writer in any case).
    """
    if not is_sqlite(conn):
        shared = "_shared" if sending else ""
        statement = f"SELECT pg_advisory_xact_lock{shared}({_EVENT_LOCKS}, hashtext(:name))"
        conn.execute(text(statement), {"name": name})


def insert(dialect_name: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that has ON CONFLICT."""
    return sqlite.insert(table) if dialect_name == "sqlite" else postgresql.insert(table)


def json_text(dialect_name: str, column: ColumnElement[Any], *path: str) -> ColumnElement[Any]:
    """The text at `path` in the JSON that a text column holds; null where there is none."""
    if dialect_name == "sqlite":
        return func.json_extract(column, "$." + ".".join(path))
    return func.json_extract_path_text(cast(column, JSON), *path)


def table_sizes(conn: Connection, now: float) -> list[tuple[str, int | None]]:
    """Our tables and about how many rows each has, without counting any: None where the database has no estimate.

    SQLite has none of its own: where a table's key is a number of SQLite's, the highest one stands for it.
    """
    names = sorted(inspect(conn).get_table_names())
    if not is_sqlite(conn):
        rows = conn.exec_driver_sql("SELECT relname, reltuples FROM pg_class WHERE relkind = 'r'").all()
        known = {name: int(count) for name, count in rows if count >= 0}
        return [(name, known.get(name)) for name in names]
    each = [f"SELECT '{name}', max(rowid) FROM \"{name}\"" for name in names]
    return [(name, count or 0) for name, count in conn.exec_driver_sql(" UNION ALL ".join(each))]


def ascii_lower(conn: Connection, column: ColumnElement[str]) -> ColumnElement[str]:
    """The text with its ASCII letters in lower case, and all others as they are, whatever the locale."""
    return func.lower(column if is_sqlite(conn) else collate(column, "C"))


def is_ascii(conn: Connection, column: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether all of the text is ASCII."""
    octets = func.length(cast(column, LargeBinary)) if is_sqlite(conn) else func.octet_length(column)
    return octets == func.length(column)
