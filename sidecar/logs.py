"""The log lines of one attempt on their way to the coordinator."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Literal

import msgspec
from samovar import wire

from sidecar.envelope import objects
from sidecar.errors import Refused
from sidecar.pace import Pace
from sidecar.redaction import NOTHING, Redactor

_BATCH = 500
#: Bytes of a batch, unless one line alone has more.
_BATCH_BYTES = 256 * 1024
#: The same where several projects share the host: as much as travels with what others say.
_BATCH_BYTES_SHARED = 48 * 1024
#: Bytes of lines of one project there, a second and at once; beyond, they are sent on later.
_PACE_SHARED = (512 * 1024.0, 512 * 1024)
#: Projects whose pace is remembered.
_MOST_PACES = 1000
#: The harness cuts lines and totals itself; these hold when something else speaks the protocol.
_LONGEST = 2 * wire.MAX_LOG_MESSAGE
_LONGEST_NAME = 256
#: Of one line as it comes in: each character may be written as six.
_LONGEST_LINE = 8 * _LONGEST
#: Bytes of an attempt's lines as they are sent on, with everything that is in them.
_MOST = wire.MAX_LOG_ENCODED
#: For what Samovar itself says of the attempt, beyond that.
_MORE = 64 * 1024
#: How far apart the numbers of the container's lines are when they are sent on: between two come the sidecar's own.
_APART = 1024
#: Lines of the sidecar that are kept until the container has said where it is with its own.
_MOST_HELD = 256
#: Lines of an attempt that have not ended, at one time: one for each stream.
_MOST_PARTIAL = 8
#: Bytes of lines that are looked at in one step of the loop, each line counted as a few more.
_STEP = 32 * 1024
_OF_EACH = 256
_LATEST = 32_503_680_000.0  # the year 3000

_LEVELS = frozenset({"debug", "info", "warning", "error", "critical"})


class Line(msgspec.Struct, omit_defaults=True):
    """As fleet.AttemptLogLine."""

    seq: int
    at: float
    level: str
    stream: Literal["stdout", "stderr", "logging", "samovar"]
    message: str
    logger: str | None = None
    partial: bool = False
    replaces: int | None = None


_decoder = msgspec.json.Decoder(Line)
_encoder = msgspec.json.Encoder()


#: Takes encoded lines.
Send = Callable[[list[bytes]], Awaitable[None]]


class Budget:
    """The bytes that the waiting lines of all attempts may take together, and the pace of each project's."""

    def __init__(
        self,
        limit: int,
        projects: Callable[[], int] = lambda: 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`projects`: how many share the host at the moment."""
        self.limit = limit
        self.used = 0
        self._projects = projects
        self._clock = clock
        self._paces: OrderedDict[str, Pace] = OrderedDict()

    @property
    def batch(self) -> int:
        """Bytes of lines that are sent at once."""
        return _BATCH_BYTES if self._projects() <= 1 else _BATCH_BYTES_SHARED

    def pause(self, project: str, size: int) -> float:
        """Seconds for which a project sends no more after so many bytes: none where it has the host to itself."""
        if self._projects() <= 1:
            return 0.0
        pace = self._paces.pop(project, None) or Pace(*_PACE_SHARED, self._clock)
        self._paces[project] = pace
        if len(self._paces) > _MOST_PACES:
            self._paces.popitem(last=False)
        return pace.take(size)


class LogStream:
    """Keeps lines in order and sends them in batches; nobody else sends lines for its attempt.

    While the coordinator answers, `add` returns when the lines are stored there. While it is away, `add`
    returns at once as long as the budget lasts, so that the task goes on; then it blocks, and the task with it.

    Numbers are the same however often a line comes, also to the sidecar after this one: a line that is there
    already is not stored again.
    """

    def __init__(
        self, send: Send, away: asyncio.Event, budget: Budget, *, project: str = "", resumed: bool = False
    ) -> None:
        """`resumed`: the container may have said lines to the sidecar before this one."""
        self._project = project
        self._send = send
        self._away = away
        self._budget = budget
        self._waiting: deque[bytes] = deque()
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._taken = 0
        self._sent = 0
        self._bytes = 0
        #: The number of the container's last line; None where nobody knows. And of our own after it.
        self._last: int | None = None if resumed else 0
        self._own = _APART // 2 if resumed else 0
        self._held: list[tuple[float, str, str, str]] = []
        #: What lines that have not ended cost, by number: it is given back when they are replaced.
        self._partial: dict[int, int] = {}
        self._arrived = asyncio.Event()
        self._task = asyncio.create_task(self._run())
        #: Takes the attempt's secrets out of its lines.
        self.redactor: Redactor = NOTHING

    async def add(self, parts: Sequence[bytes]) -> None:
        """Takes a JSON list of lines. Raises Refused where it is none; the lines before the wrong one are kept."""
        step = 0
        for data in objects(parts, _LONGEST_LINE):
            line = self.admitted(data)
            if line is not None:
                self._enqueue(line)
            step += len(data) + _OF_EACH
            if step > _STEP:
                step = 0
                self._arrived.set()
                await asyncio.sleep(0)
        self._arrived.set()
        sent = self._when_sent()
        if not self._away.is_set():
            away = asyncio.ensure_future(self._away.wait())
            either: set[asyncio.Future[Any]] = {sent, away}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            away.cancel()
        if not sent.done() and self._budget.used > self._budget.limit:
            await sent

    def admitted(self, data: bytes) -> bytes | None:
        """The line in `data` as it is sent on, where the attempt has room for it; counts it. Raises Refused."""
        try:
            line = _decoder.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise Refused("bad_request", f"lines: {str(error)[:200]}") from None
        if not 0 <= line.seq < 2**43:
            raise Refused("bad_request", f"lines: seq={line.seq}: a number from 0 to 2^43 is wanted")
        self._passed(line.seq)
        line.message = self.redactor.text(line.message[:_LONGEST], whole=not line.partial)
        line.level = line.level if line.level in _LEVELS else "info"
        line.logger = None if line.logger is None else self.redactor.text(line.logger[:_LONGEST_NAME])
        line.at = round(line.at if 0 <= line.at < _LATEST else time.time(), 3)
        if line.replaces is not None and not 0 <= line.replaces < line.seq:
            line.replaces = None
        line.seq *= _APART
        if line.replaces is not None:
            line.replaces *= _APART
        encoded = _encoder.encode(line)
        return encoded if self._admits(line, len(encoded)) else None

    def say(self, level: str, logger: str, message: str, at: float | None = None) -> None:
        """Takes a line of the sidecar's own, after those that the container has said so far."""
        at = round(time.time(), 3) if at is None else at
        if self._last is None:
            if len(self._held) < _MOST_HELD:
                self._held.append((at, level, logger, message))
            return
        self._own += 1
        if self._own >= _APART:
            return
        line = Line(
            self._last * _APART + self._own, at, level, "samovar", self.redactor.text(message[:_LONGEST]), logger
        )
        encoded = _encoder.encode(line)
        if self._admits(line, len(encoded)):
            self._enqueue(encoded)
            self._arrived.set()

    def _passed(self, seq: int) -> None:
        if self._last is None or seq > self._last:
            known = self._last is not None
            self._last = seq
            self._own = 0 if known else self._own
            self._release()

    def _release(self) -> None:
        held, self._held = self._held, []
        for at, level, logger, message in held:
            self.say(level, logger, message, at)

    def _enqueue(self, line: bytes) -> None:
        self._waiting.append(line)
        self._taken += 1
        self._budget.used += _size(line)

    def _admits(self, line: Line, cost: int) -> bool:
        if line.replaces is not None:
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
        if self._last is None:
            self._last = 0
            self._release()
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
                batch = _batch(self._waiting, self._budget.batch)
                await self._send(batch)
                for _ in batch:
                    self._budget.used -= _size(self._waiting.popleft())
                self._sent += len(batch)
                while self._waiters and self._waiters[0][0] <= self._sent:
                    waiter = self._waiters.popleft()[1]
                    if not waiter.done():
                        waiter.set_result(None)
                if pause := self._budget.pause(self._project, sum(map(len, batch))):
                    await asyncio.sleep(pause)


def _batch(waiting: Iterable[bytes], most: int) -> list[bytes]:
    batch: list[bytes] = []
    size = 0
    for line in waiting:
        size += len(line)
        if batch and (size > most or len(batch) == _BATCH):
            break
        batch.append(line)
    return batch


def _size(line: bytes) -> int:
    return len(line) + 64
