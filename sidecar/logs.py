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
        self._arrived = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def add(self, lines: list[AttemptLogLine]) -> None:
        for line in lines:
            line.message = line.message[:_LONGEST]
            self._bytes += len(line.message)
            if self._bytes <= _MOST or line.stream == "samovar":
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
