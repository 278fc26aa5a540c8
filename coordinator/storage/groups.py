"""One writer that takes what waits into one commit: SQLite syncs the disk once for many changes.

Each function of a group has a savepoint of its own, so that one which raises leaves its neighbours as they are;
and all are answered after the commit, because what one saw of another is true only then. The first needs no
savepoint: one that is alone costs what it costs without a group.

A group that fails as a whole (no room at its commit, a statement that ends the transaction) is done once more, each
of its functions in a transaction of its own: so what fails is told to whom it concerns.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from sqlalchemy import Connection, Engine

from coordinator.foundation import again
from coordinator.foundation.errors import StorageUnavailable
from coordinator.foundation.turns import Job, More
from coordinator.storage.unavailable import storage_errors

#: A group takes no more once it has so many functions, or has worked for so many seconds.
_MOST = 32
_BUDGET = 0.005
#: What took so long lately is waited for by none that came before it: it begins a group.
_SLOW = 0.0025
#: How much of an earlier time counts: a name that was slow once is not so for ever.
_FADES = 0.7
#: Names whose times are kept. (They are those of functions, and so are few.)
_MOST_NAMES = 1000


class _Done:
    """What came of a function of a group that is not committed yet."""

    __slots__ = ("error", "job", "result")

    def __init__(self, job: Job, result: Any = None, error: BaseException | None = None) -> None:
        self.job, self.result, self.error = job, result, error


class Groups:
    """The writer's work, for the one thread that does it. Jobs are given the connection."""

    def __init__(self, engine: Engine, noted: Callable[[StorageUnavailable | None], None]) -> None:
        """`noted`: told after each function whether the storage could keep it."""
        self._engine = engine
        self._noted = noted
        self._took: dict[str, float] = {}

    def serve(self, job: Job, more: More) -> None:
        """Does `job`, and what waits behind it as far as that is short."""
        following: Job | None = job
        while following is not None:
            following = self._group(following, more)

    def _group(self, first: Job, more: More) -> Job | None:
        """One commit. The job that was taken and has to begin the next one."""
        if not first.begins():
            return None
        done: list[_Done] = []
        following: Job | None = None
        began = perf_counter()
        try:
            with storage_errors(), self._engine.begin() as conn:
                done.append(_Done(first, self._call(conn, first)))
                while len(done) < _MOST and perf_counter() - began < _BUDGET:
                    if (job := more()) is None:
                        break
                    if self._took.get(job.name, 0.0) > _SLOW:
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
                for each in done:
                    self._alone(each.job)
                return following
        for each in done:
            self._tell(each)
        return following

    def _inside(self, conn: Connection, job: Job, done: list[_Done]) -> None:
        """A function more in a transaction that has others in it."""
        each = _Done(job)
        done.append(each)
        if job.after is not None and (before := _of(job.after, done)) is not None and before.error is not None:
            each.error = before.error
            return
        conn.exec_driver_sql("SAVEPOINT grouped")
        try:
            each.result = self._call(conn, job)
        except BaseException as error:
            # where the statement has ended the whole transaction, this raises
            conn.exec_driver_sql("ROLLBACK TO grouped")
            each.error = error
        conn.exec_driver_sql("RELEASE grouped")

    def _alone(self, job: Job) -> None:
        """Once more, of a group that failed."""
        try:
            with storage_errors(), self._engine.begin() as conn:
                each = _Done(job, self._call(conn, job))
        except BaseException as error:
            each = _Done(job, error=error)
        self._tell(each)

    def _call(self, conn: Connection, job: Job) -> Any:
        if (
            job.after is not None
            and job.after.future.done()
            and (error := job.after.future.exception()) is not None
        ):
            raise error
        began = perf_counter()
        try:
            with storage_errors(), again.transaction():
                return job.work(conn)
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


def _of(job: Job, done: list[_Done]) -> _Done | None:
    return next((each for each in done if each.job is job), None)
