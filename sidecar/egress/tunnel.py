"""Bytes both ways between a container and whom it has connected to."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable

from sidecar.egress.memory import Memory
from sidecar.egress.pipes import Pipe, Pipes
from sidecar.egress.rounds import Rounds

#: Steps that wait beyond which whoever has become ready is not asked again until it had its turn.
_CROWDED = 64

#: Bytes of a step while others wait for theirs.
_AMONG_OTHERS = 256 * 1024

#: What a step reads into; it is empty again when the step ends. Of a size that stays in the processor's cache.
_buffer = memoryview(bytearray(64 * 1024))
_SPLICE = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Tunnel:
    """Two sockets joined, in steps of one read and one write; an end of one is passed on to the other (half-close).

    `counted`: called with (sent, received) bytes before they are passed on; False ends the tunnel.
    `tcp`: whether the client's socket is such a one, and no unix socket.
    """

    def __init__(
        self,
        rounds: Rounds,
        owner: str,
        client: socket.socket,
        remote: socket.socket,
        memory: Memory,
        pipes: Pipes,
        counted: Callable[[int, int], bool],
        *,
        tcp: bool = False,
    ) -> None:
        self._ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._counted = counted
        self._halves = (
            # what comes by TCP the kernel passes on at half the cost; of a unix socket's it copies anyway
            _Half(self, rounds, owner, client, remote, memory, pipes if tcp else None, lambda n: counted(n, 0)),
            _Half(self, rounds, owner, remote, client, memory, pipes, lambda n: counted(0, n)),
        )

    async def run(self, sent: bytes = b"", received: bytes = b"") -> bool:
        """Until both ends have ended, one is lost or the count says so; whether both have ended.

        The sockets are left open.

        `sent`, `received`: what has come already.
        """
        for half, early in zip(self._halves, (sent, received), strict=True):
            half.begin(early)
        try:
            return await self._ended
        finally:
            for half in self._halves:
                half.stop()

    def end(self, *, whole: bool = False) -> None:
        if not self._ended.done():
            self._ended.set_result(whole)

    def half_ended(self) -> None:
        if all(half.done for half in self._halves):
            self.end(whole=True)


class _Half:
    """One direction. It reads when it has nothing left to write."""

    def __init__(
        self,
        tunnel: Tunnel,
        rounds: Rounds,
        owner: str,
        source: socket.socket,
        sink: socket.socket,
        memory: Memory,
        pipes: Pipes | None,
        counted: Callable[[int], bool],
    ) -> None:
        self._tunnel = tunnel
        self._rounds = rounds
        self._owner = owner
        self._source = source
        self._sink = sink
        self._memory = memory
        self._counted = counted
        self._loop = asyncio.get_running_loop()
        self._left = b""
        self._pipes = pipes
        self._pipe: Pipe | None = None
        self._reading = self._writing = self._queued = self._stopped = False
        self.done = False

    def begin(self, early: bytes) -> None:
        if early and not self._counted(len(early)):
            self._tunnel.end()
            return
        self._keep(early)
        self._queue()

    def stop(self) -> None:
        self._stopped = True
        self._watch(reading=False, writing=False)
        self._keep(b"")
        self._give_back()

    def _queue(self) -> None:
        if not self._queued:
            self._queued = True
            self._rounds.add(self._owner, self._step)

    def _ready(self) -> None:
        if self._rounds.waiting > _CROWDED:
            self._watch(reading=False, writing=False)
        if not self._queued:
            self._queued = True
            self._rounds.ready(self._owner, self._step)

    def _step(self) -> bool:
        if self._stopped:
            return False
        try:
            again = self._move()
        except OSError:
            self._tunnel.end()
            again = False
        self._queued = again
        return again

    def _move(self) -> bool:
        """Whether there may be more to move at once. Raises OSError where one of the sockets is lost."""
        if self._left:
            self._keep(self._left[self._send(self._left) :])
            if self._left:
                self._watch(reading=False, writing=True)
                return False
        if self._pipe is not None and not self._drained(self._pipe):
            return False
        size = self._memory.size()
        if not self._rounds.alone:
            size = min(size, _AMONG_OTHERS)
        if self._pipes is not None:
            pipe = self._pipes.take(self._owner)
            if pipe is not None:
                return self._splice(self._pipes, pipe, size)
        size = min(size, len(_buffer))
        try:
            read = self._source.recv_into(_buffer, size)
        except (BlockingIOError, InterruptedError):
            self._watch(reading=True, writing=False)
            return False
        if not read:
            self._end()
            return False
        if not self._counted(read):
            self._tunnel.end()
            return False
        sent = self._send(_buffer[:read])
        if sent < read:
            self._keep(bytes(_buffer[sent:read]))
            self._watch(reading=False, writing=True)
            return False
        if read < size:
            self._watch(reading=True, writing=False)
            return False
        return True

    def _splice(self, pipes: Pipes, pipe: Pipe, size: int) -> bool:
        """As `_move`, by way of `pipe`."""
        self._pipe = pipe
        try:
            read = pipe.left = os.splice(self._source.fileno(), pipe.writing, size, flags=_SPLICE)
        except (BlockingIOError, InterruptedError):
            self._give_back()
            self._watch(reading=True, writing=False)
            return False
        except OSError as error:
            self._give_back()
            if error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
            self._pipes = None  # a kernel that can't, or a socket
            return True
        if not read:
            self._give_back()
            self._end()
            return False
        self._memory.take(read)
        if not self._counted(read):
            self._tunnel.end()
            return False
        if not self._drained(pipe):
            return False
        if read < size:
            self._watch(reading=True, writing=False)
            return False
        return True

    def _drained(self, pipe: Pipe) -> bool:
        """Passes on what is in the pipe; whether that was all of it."""
        try:
            while pipe.left:
                passed = os.splice(pipe.reading, self._sink.fileno(), pipe.left, flags=_SPLICE)
                pipe.left -= passed
                self._memory.give(passed)
        except (BlockingIOError, InterruptedError):
            self._watch(reading=False, writing=True)
            return False
        self._give_back()
        return True

    def _give_back(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None and self._pipes is not None:
            self._memory.give(pipe.left)
            self._pipes.give(self._owner, pipe)

    def _end(self) -> None:
        """Nothing more comes: passes the end on."""
        self.done = True
        self._watch(reading=False, writing=False)
        self._sink.shutdown(socket.SHUT_WR)
        self._tunnel.half_ended()

    def _send(self, data: memoryview | bytes) -> int:
        try:
            return self._sink.send(data)
        except (BlockingIOError, InterruptedError):
            return 0

    def _keep(self, data: bytes) -> None:
        self._memory.take(len(data) - len(self._left))
        self._left = data

    def _watch(self, *, reading: bool, writing: bool) -> None:
        if reading != self._reading:
            self._reading = reading
            if reading:
                self._loop.add_reader(self._source, self._ready)
            else:
                self._loop.remove_reader(self._source)
        if writing != self._writing:
            self._writing = writing
            if writing:
                self._loop.add_writer(self._sink, self._ready)
            else:
                self._loop.remove_writer(self._sink)
