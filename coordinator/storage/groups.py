"""Several functions in one commit: SQLite's one writer takes what waits, PostgreSQL's what one host sent together.

Each function of a group has a savepoint of its own, so that one which raises leaves its neighbours as they are;
and all are answered after the commit, because what one saw of another is true only then. The first needs no
savepoint: one that is alone costs what it costs without a group.

A group that fails as a whole (no room at its commit, a statement that ends the transaction) is done once more, each
of its functions in a transaction of its own: so what fails is told to whom it concerns. PostgreSQL's locks are held
until the commit, so there nobody in a group waits long for one: who would raises Again, and is to be done alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from sqlalchemy import Connection, Engine

from coordinator.foundation import again
from coordinator.foundation.again import Again
from coordinator.foundation.errors import StorageUnavailable
from coordinator.foundation.turns import Job, More
from coordinator.storage import dialect, prepared
from coordinator.storage.unavailable import storage_errors

#: A group takes no more once it has so many functions, or has worked for so many seconds.
_MOST = 32
_BUDGET = 0.005
#: What took so long lately is waited for by none that came before it: it begins a group.
_SLOW = 0.0025
#: PostgreSQL is a way off: so much longer is the same work there.
_AWAY = 5
#: Seconds for the functions of a group that failed, one by one; those that are left then fail as it did.
_ONE_BY_ONE = 1.0
#: Another transaction was in the way: a deadlock, no lock in time, a serialization failure.
_CROSSED = frozenset({"40P01", "55P03", "40001"})
#: How much of an earlier time counts: a name that was slow once is not so for ever.
_FADES = 0.7
#: Names whose times are kept. (They are those of functions, and so are few.)
_MOST_NAMES = 1000


#: What is asked for again: nobody has judged it yet.
_UNDONE = (StorageUnavailable, Again)


class _Done:
    """What came of a function of a group that is not committed yet."""

    __slots__ = ("error", "job", "result")

    def __init__(self, job: Job, result: Any = None, error: BaseException | None = None) -> None:
        self.job, self.result, self.error = job, result, error


class Groups:
    """What a thread that writes does with a job and those behind it. Jobs are given the connection."""

    def __init__(self, engine: Engine, noted: Callable[[StorageUnavailable | None], None]) -> None:
        """`noted`: told after each function whether the storage could keep it."""
        self._engine = engine
        self._noted = noted
        self._took: dict[str, float] = {}
        self._locks = engine.dialect.name != "sqlite"
        self._factor = _AWAY if self._locks else 1

    def serve(self, job: Job, more: More) -> None:
        """Does `job`, and what waits behind it as far as that is short."""
        following: Job | None = job
        while following is not None:
            following = self._group(following, more)

    def serve_all(self, jobs: Sequence[Job]) -> None:
        left = iter(jobs)
        for job in left:
            self.serve(job, lambda: next(left, None))

    def _group(self, first: Job, more: More) -> Job | None:
        """One commit. The job that was taken and has to begin the next one."""
        if not first.begins():
            return None
        done: list[_Done] = []
        following: Job | None = None
        began = perf_counter()
        try:
            with storage_errors(), self._connected() as conn, conn.begin():
                done.append(_Done(first, self._call(conn, first)))
                while len(done) < _MOST and perf_counter() - began < _BUDGET * self._factor:
                    if (job := more()) is None:
                        break
                    if self._took.get(job.name, 0.0) > _SLOW * self._factor:
                        following = job
                        break
                    if job.begins():
                        self._inside(conn, job, done)
        except BaseException as error:
            if not done:
                done.append(_Done(first, error=error))
            elif len(done) == 1:
                done[0] = _Done(first, error=error)
            else:
                self._one_by_one(done, error)
                return following
        for each in done:
            self._tell(each)
        return following

    def _connected(self) -> Connection:
        found = self._engine.connect()
        # SQLite has no locks to wait for
        return found.execution_options(**{dialect.HURRIES: True}) if self._locks else found

    def _inside(self, conn: Connection, job: Job, done: list[_Done]) -> None:
        """A function more in a transaction that has others in it."""
        each = _Done(job)
        done.append(each)
        before = None if job.after is None else next((one for one in done if one.job is job.after), None)
        if before is not None and isinstance(before.error, _UNDONE):
            each.error = before.error
            return
        prepared.send(conn, "SAVEPOINT grouped")
        try:
            each.result = self._call(conn, job)
        except BaseException as error:
            # where the statement has ended the whole transaction, this raises
            prepared.send(conn, "ROLLBACK TO grouped")
            each.error = error
        prepared.send(conn, "RELEASE grouped")

    def _one_by_one(self, done: list[_Done], error: BaseException) -> None:
        """The functions of a group that failed, once more."""
        until = perf_counter() + _ONE_BY_ONE
        for each in done:
            if isinstance(error, StorageUnavailable) and perf_counter() > until:
                self._tell(_Done(each.job, error=error))
            else:
                self._alone(each.job)

    def _alone(self, job: Job) -> None:
        try:
            with storage_errors(), self._engine.begin() as conn:
                each = _Done(job, self._call(conn, job))
        except BaseException as error:
            each = _Done(job, error=error)
        self._tell(each)

    def _call(self, conn: Connection, job: Job) -> Any:
        before = None if job.after is None else job.after.future
        if before is not None and before.done() and isinstance(error := before.exception(), _UNDONE):
            raise error
        began = perf_counter()
        try:
            with storage_errors(), again.transaction():
                return job.work(conn)
        except StorageUnavailable as error:
            if _state(error.__cause__) in _CROSSED:
                raise Again([]) from error
            raise
        finally:
            took = perf_counter() - began
            known = self._took.get(job.name, 0.0)
            if job.name in self._took or len(self._took) < _MOST_NAMES:
                self._took[job.name] = max(took, known * _FADES)

    def _tell(self, each: _Done) -> None:
        if each.error is None:
            self._noted(None)
            each.job.future.set_result(each.result)
            return
        if isinstance(each.error, StorageUnavailable):
            self._noted(each.error)
        each.job.future.set_exception(each.error)


def _state(error: BaseException | None) -> str | None:
    return getattr(getattr(error, "orig", None), "sqlstate", None)
