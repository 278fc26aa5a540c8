"""One container's connection: requests in, replies out, and nothing else may connect beside it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from samovar import wire

from sidecar import envelope, peers
from sidecar.envelope import Request
from sidecar.errors import Refused
from sidecar.lines import PATIENCE, Allowance, Large, Lines
from sidecar.pace import Pace
from sidecar.ticket import Ticket

log = structlog.get_logger()

#: Requests of one container that are being answered at once; past it the sidecar stops reading.
_IN_FLIGHT = 16
#: Bytes of them all, without the one that may be large.
_BYTES_IN_FLIGHT = 2 * 1024 * 1024
#: What looking into a byte costs, in bytes that are only passed on.
_LOOKED_INTO = 3
#: What of a reply may wait for the container to read it, besides one reply.
_UNREAD = 1024 * 1024
#: Seconds that whoever connects again has for its first line.
_PATIENCE = 2.0

#: Gives the reply as a line. Never raises, except CancelledError.
Handle = Callable[[Request], Awaitable[bytes]]


class Listener:
    """The unix socket of one container, in a directory of its own, with at most one connection.

    The first connection comes before any user code exists in the container, and is given a ticket that user
    code never sees. From then on only who shows it may connect (after this sidecar or the connection was lost).
    While somebody is connected nothing listens, so that whoever else tries is refused by the kernel and costs
    nothing here.
    """

    def __init__(
        self,
        directory: Path,
        ticket: Ticket,
        handle: Handle,
        closed: Callable[[], None],
        large: asyncio.Semaphore,
    ) -> None:
        self.directory = directory
        self.ticket = ticket
        self._handle = handle
        self._closed = closed
        self.large = Large(large)
        self.allowance = Allowance()
        self._server: asyncio.Server | None = None
        #: Who is connected, admitted or not.
        self._guest: asyncio.StreamWriter | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._shut = False
        self._refused = 0
        self._breaks = Pace(0.1, 3)

    @property
    def connected(self) -> bool:
        return self._writer is not None

    async def open(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o755)
        path = self.directory / wire.SOCKET_NAME
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, sock=peers.listener(path))
        # whoever is in the container may connect as far as these two go: the mount is what tells containers apart.
        # On the host nobody else comes as far, because the directory above is its owner's alone
        os.chmod(path, 0o666)
        os.chmod(self.directory, 0o755)

    def close(self) -> None:
        """Stops; the directory stays, because a running container has it mounted."""
        self._shut = True
        if self._server is not None:
            self._server.close()
        self._drop()
        for task in list(self._tasks):
            task.cancel()

    def remove(self) -> None:
        """Stops, and takes the directory away. The ticket stays: the container may be there yet."""
        self.close()
        clear(self.directory)

    def send(self, message: wire.Message) -> bool:
        """Whether `message` went onto an open connection."""
        if self._writer is None or self._writer.is_closing():
            return False
        self._writer.write(wire.encode(message))
        return True

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._guest is not None or self._shut:
            writer.close()
            return
        if not peers.may_be_a_container(uid := peers.uid_of(writer)):
            self._turn_away(f"user {uid} of the host is no container")
            writer.close()
            return
        self._guest = writer
        if self._server is not None:
            self._server.close()
        try:
            line = await self._first_line(reader)
            request = envelope.read(line)
            if self.ticket.admits(request.get("ticket")):
                self._writer = writer
                self._refused = 0
                await self._read(reader, line)
            else:
                self._turn_away("no ticket")
                writer.write(refusal(request.id, "no_ticket", "another process has connected before"))
        except (ConnectionError, wire.ProtocolError, Refused) as error:
            if self._writer is not writer:
                self._turn_away(str(error))
            elif self._breaks.take() == 0:  # one that breaks as often as it connects is said now and then
                log.warning("a container's connection broke", directory=self.directory.name, problem=str(error))
        finally:
            admitted = self._writer is writer
            self._drop()
            if admitted:
                self._closed()
            await self._listen_again()

    async def _first_line(self, reader: asyncio.StreamReader) -> bytes:
        """Raises ProtocolError where none comes, or one that is longer than a hello ever is."""
        try:
            # no user code exists before the first is answered, so nobody can keep others out by saying nothing
            async with asyncio.timeout(_PATIENCE if self.ticket.given else None):
                return await reader.readuntil(b"\n")
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise wire.ProtocolError(f"no hello: {type(error).__name__}") from None

    def _turn_away(self, problem: str) -> None:
        if not self._refused:  # said once: a task may try as often as it likes
            log.warning("refused a connection", directory=self.directory.name, problem=problem)
        self._refused += 1

    async def _listen_again(self) -> None:
        if self._shut:
            return
        try:
            await self.open()
        except OSError as error:
            # the container ends itself when it has been without a sidecar for long, and its runner hears of that
            log.error("cannot listen for a container any more", directory=self.directory.name, problem=str(error))
        if self._shut and self._server is not None:  # meanwhile
            self._server.close()

    async def _read(self, reader: asyncio.StreamReader, data: bytes) -> None:
        """Answers what is in `data` and what comes after it."""
        writer = self._writer
        assert writer is not None
        room = _Room()
        async for request in Lines(reader, self.allowance, self.large, data):
            size = 0 if request.large else request.size
            if request.kind == wire.LOG:
                # lines are looked into: that takes some times what passing them on does
                self.allowance.bytes.take(_LOOKED_INTO * request.size)
            await room.enter(size)
            task = asyncio.create_task(self._answer(request, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _, size=size: room.leave(size))  # type: ignore[misc]

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        try:
            try:
                line = await self._handle(request)
            except Exception as error:
                # what nobody answers is waited for without end
                log.exception("a request could not be carried out", directory=self.directory.name)
                line = refusal(request.id, "sidecar_failed", f"the sidecar failed: {type(error).__name__}")
            if writer.is_closing():
                return
            # an answer may be as large as a value, and counts as much
            pause = self.allowance.bytes.take(len(line))
            if len(line) > _UNREAD and pause:
                await asyncio.sleep(pause)
            writer.write(line)
            del line
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(PATIENCE):
                    await writer.drain()
        except TimeoutError:
            # who does not read its answers has them kept here: it may ask again when it does
            writer.transport.abort()
        finally:
            if request.large:
                request.large = False
                self.large.release()

    def _drop(self) -> None:
        guest, self._guest, self._writer = self._guest, None, None
        if guest is not None:
            guest.close()


def clear(directory: Path) -> None:
    """Takes away the directory of a container that is gone."""
    with contextlib.suppress(OSError):
        for name in (wire.SOCKET_NAME, wire.RUN_SOCKET_NAME, wire.EGRESS_NAME, wire.PLACES_NAME):
            (directory / name).unlink(missing_ok=True)
        directory.rmdir()


class _Room:
    """So many requests, of so many bytes, that are being answered."""

    def __init__(self) -> None:
        self._requests = 0
        self._bytes = 0
        self._left = asyncio.Event()

    async def enter(self, size: int) -> None:
        while self._requests >= _IN_FLIGHT or (self._bytes and self._bytes + size > _BYTES_IN_FLIGHT):
            self._left.clear()
            await self._left.wait()
        self._requests += 1
        self._bytes += size

    def leave(self, size: int) -> None:
        self._requests -= 1
        self._bytes -= size
        self._left.set()


def granted(number: int | None, answer: bytes = b"{}") -> bytes:
    """The line that grants a request, with the members of `answer`: a JSON object of ours or of the coordinator."""
    members = answer.strip()[1:]
    comma = b"" if members.lstrip().startswith(b"}") else b","
    return b'{"reply":%s,"ok":true%s%s\n' % (_number(number), comma, members.replace(b"\n", b" "))


def refusal(number: int | None, code: str, message: str, **more: object) -> bytes:
    """The line that refuses a request, with a stable `code` and a sentence for people."""
    return wire.encode(wire.refusal({"id": number}, code, message, **more))


def _number(number: int | None) -> bytes:
    return b"null" if number is None else str(number).encode()
