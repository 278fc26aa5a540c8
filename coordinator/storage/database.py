"""The way to the database: whole transactions, run in threads, each given the database's time.

A store function is plain: it takes a connection and the time, and works in the transaction it is given.
What must not be done while a transaction is held (foundation/again.py) is done between two tries of it.
Threads are taken in turns by who asks (foundation/turns.py).
`write` begins one, runs the function and commits; the answer is given only after the commit. A function that
met a deadlock is called again, so it changes nothing outside of its transaction. SQLite has one writer, so
its writes go through one thread in their turns, and those that wait are committed together (groups.py).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy import exc as sa

from coordinator.foundation import again
from coordinator.foundation.again import Again
from coordinator.foundation.errors import StorageUnavailable
from coordinator.foundation.turns import Job, Turns
from coordinator.storage import deeds, dialect, schema
from coordinator.storage.blobs import Blobs
from coordinator.storage.groups import Groups
from coordinator.storage.quota import Quota
from coordinator.storage.unavailable import storage_errors

P = ParamSpec("P")
Q = ParamSpec("Q")
T = TypeVar("T")

Clock = Callable[[Connection], float]


class Call(NamedTuple):
    """`function(connection, now, *arguments)`, one of several.

    `after`: the place of one before it that it builds on: where that one is not done, this one is not.
    `line`: where it waits for its turn; None: where the request in progress does.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    after: int | None = None
    line: str | None = None


_DEADLOCK = "40P01"
#: How often a transaction may be that of a deadlock which the database ends.
_DEADLOCKS = 4

#: How often a transaction is begun anew because of work that has to be done outside of it: once for each task that
#: listens to an event, and then some.
_TRIES = 2000


class Database:
    """Raises StorageUnavailable from every call while the database is locked, full or out of reach."""

    def __init__(self, url: str, clock: Clock = dialect.now) -> None:
        self._reader, self._writer, readers = dialect.engines(url)
        self._clock = clock
        self.quota: Quota | None = None
        #: How to open a session of one's own (`dialect.session`); None where nobody else is on the database.
        self.session = dialect.session(url)
        #: The URL as it may be shown: without a password.
        self.name = self._writer.url.render_as_string(hide_password=True)
        # some threads, each with its connection, are the fleet's and the maintenance's alone
        self._reads = Turns(readers, "read", kept=max(1, readers // 4))
        self._failing: StorageUnavailable | None = None
        self._folding = dialect.folding(url)
        #: One thread for SQLite's one writer; None where each write has a transaction of its own.
        self._groups = Groups(self._writer, self._note)
        self._writes = None if self.shared else Turns(1, "write", serve=self._groups.serve)
        #: Where what a transaction must not be held for is done.
        self._jobs = Turns(8, "job", share=1)

    def limit(self, quota: Quota | None) -> None:
        """What every transaction from now on is held to."""
        self.quota = quota
        for engine in {self._reader, self._writer}:
            engine.update_execution_options(quota=quota)

    def names(self, blobs: Blobs) -> None:
        """Where what the rows name by its hash is kept, for transactions to find it."""
        for engine in {self._reader, self._writer}:
            engine.update_execution_options(blobs=blobs)

    @property
    def shared(self) -> bool:
        """Whether another coordinator may change the same database without this one being told."""
        return self._reader is self._writer

    def migrate(self) -> None:
        """Brings the schema to the newest version; two coordinators at once do it one after the other.

        Raises SchemaTooNew, NotSessions (poolers.py).
        """
        if self.session is not None:
            # an install on SQLite is spared psycopg
            from coordinator.storage import poolers

            poolers.check(self.session)
        with storage_errors(), self._writer.connect() as conn:
            with dialect.patience(conn), dialect.without_references(conn), conn.begin():
                dialect.lock_migrations(conn)
                schema.bring_up_to_date(conn)
                dialect.check_references(conn)

    async def read(
        self, function: Callable[Concatenate[Connection, float, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._in_turn(self._reads, lambda: self._transaction(self._reader, function, *args, **kwargs))

    async def write(
        self, function: Callable[Concatenate[Connection, float, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        deed = deeds.current.get()
        noted: Callable[Concatenate[Connection, float, P], T] = function if deed is None else deed.around(function)
        if (writes := self._writes) is not None:
            name = getattr(function, "__qualname__", "")

            def put(work: Callable[[Connection], T]) -> Future[T]:
                return writes.put(Job(work, name))

            result = await self._tried(put, lambda conn: noted(conn, self._clock(conn), *args, **kwargs))
        else:
            result = await self._in_turn(self._reads, lambda: self._writing(noted, *args, **kwargs))
        if deed is not None:
            deed.committed()
        return result

    def write_each(self, calls: Sequence[Call]) -> list[asyncio.Future[Any]]:
        """What comes of each of `calls`: those of a line in their order, committed together where they are short.

        One that raises leaves the others as they are. Again: it was not done, and is to be done by `write`.
        """
        jobs: list[Job] = []
        for call in calls:
            before = None if call.after is None else jobs[call.after]
            jobs.append(Job(functools.partial(self._called, call), call.function.__qualname__, before))
        if self._writes is not None:
            for call, job in zip(calls, jobs, strict=True):
                self._writes.put(job, call.line)
        elif jobs:
            self._reads.submit(lambda: self._groups.serve_all(jobs))
        return [asyncio.wrap_future(job.future) for job in jobs]

    def _called(self, call: Call, conn: Connection) -> Any:
        with again.attempt({}):
            return call.function(conn, self._clock(conn), *call.arguments)

    async def _in_turn(self, turns: Turns, work: Callable[[], T]) -> T:
        return await self._tried(turns.submit, work)

    async def _tried(self, put: Callable[[Callable[Q, T]], Future[T]], work: Callable[Q, T]) -> T:
        """The result of `work`, which `put` has done; what it needs outside of a transaction is done in between."""
        memo: again.Memo = {}

        def once(*given: Q.args, **named: Q.kwargs) -> T:
            with again.attempt(memo):
                return work(*given, **named)

        for _ in range(_TRIES):
            try:
                return await asyncio.wrap_future(put(once))
            except Again as needed:
                for job in needed.jobs:
                    await asyncio.wrap_future(self._jobs.submit(job.work, job.project))
        raise _too_often()

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
            self._note(error)
            raise
        self._note(None)
        return result

    def _note(self, failing: StorageUnavailable | None) -> None:
        self._failing = failing
        if failing is None and self._folding is not None:
            self._folding.wrote()

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
        raise _too_often()

    def _transaction(
        self,
        engine: Engine,
        function: Callable[Concatenate[Connection, float, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        with storage_errors():
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
        if self._writes is not None:
            self._writes.shutdown()
        self._reads.shutdown()
        self._jobs.shutdown()
        if self._folding is not None:
            self._folding.close()
        self._reader.dispose()
        self._writer.dispose()


def _look(conn: Connection, now: float) -> None:
    conn.execute(text("SELECT 1")).all()


def _too_often() -> StorageUnavailable:
    return StorageUnavailable("too much had to be looked at for one change: nothing was changed; send less at once")
