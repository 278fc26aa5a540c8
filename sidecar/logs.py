"""The log lines of one attempt on their way to the coordinator."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from samovar import wire

from coordinator.wire import AttemptLogLine

_BATCH = 500
#: The harness cuts lines and totals itself; these hold when something else speaks the protocol.
_LONGEST = 2 * wire.MAX_LOG_MESSAGE
_MOST = wire.MAX_LOG_BYTES + 1024 * 1024
#: For what Samovar itself says of the attempt, beyond that.
_MORE = 64 * 1024
#: What a line costs besides its text: an attempt has so many lines, however short.
_LINE_COST = 64
#: Lines of an attempt that have not ended, at one time: one for each stream.
_MOST_PARTIAL = 8

Send = Callable[[list[AttemptLogLine]], Awaitable[None]]


class Budget:
    """The bytes that the waiting lines of all attempts may take together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


class LogStream:
    """Keeps lines in order and sends them in batches; nobody else sends lines for its attempt.

    While the coordinator answers, `add` returns when the lines are stored there. While it is away, `add`
    returns at once as long as the budget lasts, so that the task goes on; then it blocks, and the task with it.
    """

    def __init__(self, send: Send, away: asyncio.Event, budget: Budget) -> None:
        self._send = send
        self._away = away
        self._budget = budget
        self._waiting: deque[AttemptLogLine] = deque()
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._taken = 0
        self._sent = 0
        self._bytes = 0
        #: What lines that have not ended cost, by number: it is given back when they are replaced.
        self._partial: dict[int, int] = {}
        self._arrived = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def add(self, lines: list[AttemptLogLine]) -> None:
        for line in lines:
            line.message = line.message[:_LONGEST]
            if self._admits(line):
                self._waiting.append(line)
                self._taken += 1
                self._budget.used += _size(line)
        self._arrived.set()
        sent = self._when_sent()
        if not self._away.is_set():
            away = asyncio.ensure_future(self._away.wait())
            either: set[asyncio.Future[Any]] = {sent, away}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            away.cancel()
        if not sent.done() and self._budget.used > self._budget.limit:
            await sent

    def _admits(self, line: AttemptLogLine) -> bool:
        """Whether the attempt has room for the line; counts it."""
        cost = len(line.message) + _LINE_COST
        if line.replaces is not None and line.replaces < line.seq:
            self._bytes -= self._partial.pop(line.replaces, 0)
        if self._bytes + cost > (_MOST + _MORE if line.stream == "samovar" else _MOST):
            return False
        self._bytes += cost
        if line.partial:
            if len(self._partial) >= _MOST_PARTIAL:
                del self._partial[next(iter(self._partial))]
            self._partial[line.seq] = cost
        return True

    async def drained(self) -> None:
        """Returns when every line taken so far is stored at the coordinator."""
        await self._when_sent()

    def close(self) -> None:
        """Forgets what is left: the attempt is not ours any more."""
        self._task.cancel()
        self._budget.used -= sum(map(_size, self._waiting))
        self._waiting.clear()
        for _, waiter in self._waiters:
            waiter.cancel()

    def _when_sent(self) -> asyncio.Future[None]:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._sent >= self._taken:
            waiter.set_result(None)
        else:
            self._waiters.append((self._taken, waiter))
        return waiter

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                batch = [self._waiting[n] for n in range(min(_BATCH, len(self._waiting)))]
                await self._send(batch)
                for _ in batch:
                    self._budget.used -= _size(self._waiting.popleft())
                self._sent += len(batch)
                while self._waiters and self._waiters[0][0] <= self._sent:
                    waiter = self._waiters.popleft()[1]
                    if not waiter.done():
                        waiter.set_result(None)


def _size(line: AttemptLogLine) -> int:
    return len(line.message) + 128
