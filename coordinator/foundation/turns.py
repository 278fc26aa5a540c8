"""Threads that are taken in turns: work waits in a line for each who asks for it, and each line has its share.

The lines are those of projects (what their keys ask, and what their attempts say) and of keys that see all of them,
and one of our own (claims, heartbeats, the maintenance), which comes first every other time, and has threads that
nobody else gets. Of the other lines that one is next which has been given the least time: who asks for little goes
before who asks for much, and what is long costs its line as many turns as it is long. Within a line all is done in
the order it came.
"""

from __future__ import annotations

import functools
import heapq
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar, copy_context
from time import perf_counter
from typing import Any, TypeVar

import structlog

log = structlog.get_logger()

T = TypeVar("T")

#: The line of our own work.
OWN = ""
#: Whose work is done here: a request sets it once it is known who asks.
lane: ContextVar[str] = ContextVar("lane", default=OWN)
#: Seconds that a turn counts at the least: lines whose work is as short as that go round.
_LEAST = 0.001
#: Lines whose time is kept though nothing waits in them.
_MOST_KEPT = 1000


class Job:
    """Work in a line. `name`: of all jobs that do the same."""

    __slots__ = ("after", "future", "name", "work")

    def __init__(self, work: Callable[..., Any], name: str = "", after: Job | None = None) -> None:
        self.future: Future[Any] = Future()
        self.work: Callable[..., Any] = functools.partial(copy_context().run, work)
        self.name = name
        #: One whose work this one builds on; it stands before this one in the same line.
        self.after = after

    def begins(self) -> bool:
        """Whether anybody still wants it."""
        return self.future.set_running_or_notify_cancel()


#: Gives the next of the jobs that wait, whose turn it is then; None where none does.
More = Callable[[], Job | None]


def one(job: Job, more: More) -> None:
    """Does one job, and takes no other with it."""
    if job.begins():
        try:
            job.future.set_result(job.work())
        except BaseException as error:
            job.future.set_exception(error)


class Turns:
    """`count` threads. Of them `kept` are for the own line alone; another line has at most `share` at a time.

    `serve` is given a job whose turn it is, and may take those that are next along with it, in their turns.
    """

    def __init__(
        self,
        count: int,
        name: str,
        *,
        kept: int = 0,
        share: int | None = None,
        serve: Callable[[Job, More], None] = one,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._open = max(1, count - kept)
        self._share = share if share is not None else max(1, (self._open + 1) // 2)
        self._lock = threading.Lock()
        #: Threads that have nothing to do: the one that had something last is woken first, what it needs is near.
        self._idle: list[threading.Lock] = []
        self._lines: OrderedDict[str, deque[Job]] = OrderedDict()
        self._busy: dict[str, int] = {}
        self._others = 0
        self._own_last = False
        self._closed = False
        self._count, self._name = count, name
        self._serve = serve
        self._clock = clock
        #: Seconds that each line has been given: it begins with what the line served last had when its turn came.
        self._given: dict[str, float] = {}
        self._reached = 0.0
        self._threads: list[threading.Thread] = []

    def submit(self, work: Callable[[], T], line: str | None = None) -> Future[T]:
        """Puts work into its line (default: that of the request in progress)."""
        return self.put(Job(work), line)

    def put(self, job: Job, line: str | None = None) -> Future[Any]:
        line = lane.get() if line is None else line
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if line not in self._lines:
                self._lines[line] = deque()
                # nobody saves up turns for later
                self._given[line] = max(self._reached, self._given.get(line, 0.0))
            self._lines[line].append(job)
            if self._idle:
                self._idle.pop().release()
            elif len(self._threads) < self._count:
                thread = threading.Thread(target=self._run, name=f"{self._name}_{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
        return job.future

    def shutdown(self) -> None:
        """Does what is in the lines, and ends."""
        with self._lock:
            self._closed = True
            self._wake_all()
        for thread in self._threads:
            thread.join()

    def _wake_all(self) -> None:
        while self._idle:
            self._idle.pop().release()

    def _next(self) -> str | None:
        """The line whose turn it is; None where no line may be served now."""
        if OWN in self._lines and not self._own_last:
            return OWN
        if self._others < self._open:
            free = [line for line in self._lines if line != OWN and self._busy.get(line, 0) < self._share]
            if free:
                return min(free, key=self._given.__getitem__)
        return OWN if OWN in self._lines else None

    def _take(self, line: str) -> Job:
        waiting = self._lines[line]
        job = waiting.popleft()
        if waiting:
            self._lines.move_to_end(line)
        else:
            del self._lines[line]
        self._own_last = line == OWN
        if line != OWN:
            self._reached = max(self._reached, self._given[line])
        self._busy[line] = self._busy.get(line, 0) + 1
        self._others += line != OWN
        return job

    def _give_back(self, line: str, since: float) -> None:
        self._given[line] = self._given.get(line, 0.0) + max(_LEAST, self._clock() - since)
        if len(self._given) > _MOST_KEPT + len(self._lines):
            waiting = [name for name in self._given if name in self._lines or name in self._busy]
            longest = heapq.nlargest(_MOST_KEPT // 2, self._given, self._given.__getitem__)
            self._given = {name: self._given[name] for name in {*waiting, *longest}}
        self._others -= line != OWN
        self._busy[line] -= 1
        if not self._busy[line]:
            del self._busy[line]
        if self._lines and self._idle:
            # what this line's share held back may go on
            self._idle.pop().release()

    def _run(self) -> None:
        held: str | None = None
        since = 0.0

        def more() -> Job | None:
            nonlocal held, since
            with self._lock:
                if held is not None:
                    self._give_back(held, since)
                since = self._clock()
                held = self._next()
                return None if held is None else self._take(held)

        woken = threading.Lock()
        woken.acquire()
        while True:
            job: Job | None = None
            with self._lock:
                if (held := self._next()) is not None:
                    since = self._clock()
                    job = self._take(held)
                elif self._closed and not self._lines:
                    self._wake_all()
                    return
                else:
                    self._idle.append(woken)
            if job is None:
                woken.acquire()
                continue
            try:
                self._serve(job, more)
            except BaseException:
                # a thread that ended here would leave its line standing for ever
                log.exception("work in turns failed", threads=self._name)
            del job
            with self._lock:
                if held is not None:
                    self._give_back(held, since)
