"""The way to the database: whole transactions, run in threads, each given the database's time.

A store function is plain: it takes a connection and the time, and works in the transaction it is given.
What must not be done while a transaction is held (foundation/again.py) is done between two tries of it.
Threads are taken in turns by who asks (foundation/turns.py).
`write` begins one, runs the function and commits; the answer is given only after the commit. A function that
met a deadlock is called again, so it changes nothing outside of its transaction. SQLite has one writer, so
its writes go through one thread in the order they came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text
from sqlalchemy import exc as sa

from coordinator.foundation import again
from coordinator.foundation.again import Again
from coordinator.foundation.errors import Invalid, SchemaTooNew, StorageUnavailable
from coordinator.foundation.turns import Turns
from coordinator.storage import deeds, dialect, poolers
from coordinator.storage.quota import Quota

P = ParamSpec("P")
T = TypeVar("T")

Clock = Callable[[Connection], float]

_DEADLOCK = "40P01"
#: How often a transaction may be that of a deadlock which the database ends.
_DEADLOCKS = 4

#: How often a transaction is begun anew because of work that has to be done outside of it: once for each task that
#: listens to an event, and then some.
_TRIES = 2000

_MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """Raises StorageUnavailable from every call while the database is locked, full or out of reach."""

    def __init__(self, url: str, clock: Clock = dialect.now) -> None:
        self._reader, self._writer, readers, writers = dialect.engines(url)
        self._clock = clock
        self.quota: Quota | None = None
        #: How to open a session of one's own (`dialect.session`); None where nobody else is on the database.
        self.session = dialect.session(url)
        #: The URL as it may be shown: without a password.
        self.name = self._writer.url.render_as_string(hide_password=True)
        # some threads, each with its connection, are the fleet's and the maintenance's alone
        self._reads = Turns(readers, "read", kept=max(1, readers // 4))
        self._writes = self._reads if self.shared else Turns(writers, "write")
        self._failing: StorageUnavailable | None = None
        #: Where what a transaction must not be held for is done.
        self._jobs = Turns(8, "job", share=1)

    def limit(self, quota: Quota) -> None:
        """What every transaction from now on is held to."""
        self.quota = quota
        for engine in {self._reader, self._writer}:
            engine.update_execution_options(quota=quota)

    @property
    def shared(self) -> bool:
        """Whether another coordinator may change the same database without this one being told."""
        return self._reader is self._writer

    def migrate(self) -> None:
        """Brings the schema to the newest version; two coordinators at once do it one after the other.

        Raises SchemaTooNew, NotSessions (poolers.py).
        """
        if self.session is not None:
            poolers.check(self.session)
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        with _storage_errors(), self._writer.connect() as conn:
            with dialect.patience(conn), dialect.without_references(conn), conn.begin():
                dialect.lock_migrations(conn)
                config.attributes["connection"] = conn
                _check_revision(conn, config)
                command.upgrade(config, "head")
                dialect.check_references(conn)

    async def read(
        self, function: Callable[Concatenate[Connection, float, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._in_turn(self._reads, lambda: self._transaction(self._reader, function, *args, **kwargs))

    async def write(
        self, function: Callable[Concatenate[Connection, float, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        deed = deeds.current.get()
        if deed is None:
            return await self._in_turn(self._writes, lambda: self._writing(function, *args, **kwargs))
        noted: Callable[Concatenate[Connection, float, P], T] = deed.around(function)
        result = await self._in_turn(self._writes, lambda: self._writing(noted, *args, **kwargs))
        deed.committed()
        return result

    async def _in_turn(self, turns: Turns, work: Callable[[], T]) -> T:
        memo: again.Memo = {}

        def once() -> T:
            with again.attempt(memo):
                return work()

        for _ in range(_TRIES):
            try:
                return await asyncio.wrap_future(turns.submit(once))
            except Again as needed:
                for job in needed.jobs:
                    await asyncio.wrap_future(self._jobs.submit(job.work, job.project))
        raise _tried()

    def read_now(
        self, function: Callable[Concatenate[Connection, float, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return self._now(lambda: self._transaction(self._reader, function, *args, **kwargs))

    def write_now(
        self, function: Callable[Concatenate[Connection, float, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`function(connection, now, *args)` in one transaction, committed before this returns."""
        return self._now(lambda: self._writing(function, *args, **kwargs))

    def _writing(
        self, function: Callable[Concatenate[Connection, float, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        try:
            result = self._transaction(self._writer, function, *args, **kwargs)
        except StorageUnavailable as error:
            self._failing = error
            raise
        self._failing = None
        return result

    async def check(self) -> None:
        """Raises StorageUnavailable where the last write could not be made, or nothing can be read.

        It writes nothing, and does not wait for those who do: the maintenance writes every few seconds.
        """
        if self.quota is not None:
            self.quota.check_space()
        if self._failing is not None:
            raise StorageUnavailable(self._failing.message)
        await self.read(_look)

    def _now(self, work: Callable[[], T]) -> T:
        memo: again.Memo = {}
        for _ in range(_TRIES):
            try:
                with again.attempt(memo):
                    return work()
            except Again as needed:
                for job in needed.jobs:
                    job.work()
        raise _tried()

    def _transaction(
        self,
        engine: Engine,
        function: Callable[Concatenate[Connection, float, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        with _storage_errors():
            left = _DEADLOCKS
            while True:
                done = False
                try:
                    with engine.begin() as conn, again.transaction():
                        result = function(conn, self._clock(conn), *args, **kwargs)
                        done = True
                    return result
                except sa.DBAPIError as error:
                    if done and error.connection_invalidated:
                        raise StorageUnavailable(
                            "the connection to the database was lost while a change was committed: whether it was "
                            "stored is not known; look, or send the same again with an idempotency key"
                        ) from error
                    # of two transactions in each other's way PostgreSQL ends one, which then has the way free
                    left -= 1
                    if not left or getattr(error.orig, "sqlstate", None) != _DEADLOCK:
                        raise

    def close(self) -> None:
        self._writes.shutdown()
        self._reads.shutdown()
        self._jobs.shutdown()
        self._reader.dispose()
        self._writer.dispose()


def _look(conn: Connection, now: float) -> None:
    conn.execute(text("SELECT 1")).all()


def _tried() -> StorageUnavailable:
    return StorageUnavailable("too much had to be looked at for one change: nothing was changed; send less at once")


def _check_revision(conn: Connection, config: Config) -> None:
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    for found in MigrationContext.configure(conn).get_current_heads():
        if found not in known:
            raise SchemaTooNew(
                f"the database has schema {found}, and this coordinator knows schemas up to "
                f"{script.get_current_head()}: it was migrated by a later version. Install that version or a later "
                "one, or restore the backup that was made before the migration; nothing was changed"
            )


@contextmanager
def _storage_errors() -> Iterator[None]:
    """Turns what the driver says of a database that cannot serve into StorageUnavailable."""
    try:
        yield
    except (sa.DataError, OverflowError, UnicodeEncodeError) as error:
        raise Invalid(f"a value that the database cannot hold: {_first_line(error)}") from error
    except (sa.DBAPIError, sa.TimeoutError) as error:
        if not _is_unavailable(error):
            raise
        raise StorageUnavailable(
            f"the database cannot be used now: {_first_line(error)}; nothing was changed, try again"
        ) from error


def _is_unavailable(error: sa.DBAPIError | sa.TimeoutError) -> bool:
    if isinstance(error, (sa.OperationalError, sa.InterfaceError, sa.TimeoutError)):
        return True
    # 25006: the server, or the role, takes no writes for now
    if getattr(error.orig, "sqlstate", None) == "25006":
        return True
    # exactly DatabaseError is what SQLite says of a file that is not, or no longer, a database
    return error.connection_invalidated or type(error) is sa.DatabaseError


def _first_line(error: BaseException) -> str:
    original = getattr(error, "orig", None) or error
    lines = str(original).strip().splitlines()
    return lines[0] if lines else type(original).__name__
