"""Threads that are taken in turns: work waits in a line for each who asks for it, and each line has its share.

The lines are those of projects and keys, and one of our own (the fleet's requests, the maintenance), which comes
first every other time, and has threads that nobody else gets. Within a line all is done in the order it came.
"""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")

#: The line of our own work.
OWN = ""
#: Whose work is done here: a request sets it once it is known who asks.
lane: ContextVar[str] = ContextVar("lane", default=OWN)


class Turns:
    """`count` threads. Of them `kept` are for the own line alone; another line has at most `share` at a time."""

    def __init__(self, count: int, name: str, *, kept: int = 0, share: int | None = None) -> None:
        self._open = max(1, count - kept)
        self._share = share if share is not None else max(1, (self._open + 1) // 2)
        self._condition = threading.Condition()
        self._lines: OrderedDict[str, deque[tuple[Future[Any], Callable[[], Any]]]] = OrderedDict()
        self._busy: dict[str, int] = {}
        self._others = 0
        self._own_last = False
        self._closed = False
        self._count, self._name = count, name
        self._threads: list[threading.Thread] = []

    def submit(self, work: Callable[[], T], line: str | None = None) -> Future[T]:
        """Puts work into its line (default: that of the request in progress)."""
        future: Future[T] = Future()
        line = lane.get() if line is None else line
        with self._condition:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._lines.setdefault(line, deque()).append((future, functools.partial(copy_context().run, work)))
            if len(self._threads) < self._count:
                thread = threading.Thread(target=self._run, name=f"{self._name}_{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._condition.notify()
        return future

    def shutdown(self) -> None:
        """Does what is in the lines, and ends."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        for thread in self._threads:
            thread.join()

    def _next(self) -> str | None:
        """The line whose turn it is; None where no line may be served now."""
        if OWN in self._lines and not self._own_last:
            return OWN
        if self._others < self._open:
            for line in self._lines:
                if line != OWN and self._busy.get(line, 0) < self._share:
                    return line
        return OWN if OWN in self._lines else None

    def _run(self) -> None:
        while True:
            with self._condition:
                while (line := self._next()) is None:
                    if self._closed and not self._lines:
                        self._condition.notify_all()
                        return
                    self._condition.wait()
                waiting = self._lines[line]
                future, work = waiting.popleft()
                if waiting:
                    self._lines.move_to_end(line)
                else:
                    del self._lines[line]
                self._own_last = line == OWN
                self._busy[line] = self._busy.get(line, 0) + 1
                self._others += line != OWN
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:
                    future.set_exception(error)
            del future, work
            with self._condition:
                self._others -= line != OWN
                self._busy[line] -= 1
                if not self._busy[line]:
                    del self._busy[line]
                # what this line's share held back may go on
                self._condition.notify()
