"""One container's connection: lines in, replies out, and nothing else may connect beside it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from samovar import wire

from sidecar.ticket import Ticket

log = structlog.get_logger()

#: Requests of one container that are being answered at once; past it the sidecar stops reading.
_IN_FLIGHT = 16
#: Seconds that whoever connects again has for its first line.
_PATIENCE = 2.0

Handle = Callable[[wire.Message], Awaitable[wire.Message]]


class Listener:
    """The unix socket of one container, in a directory of its own, with at most one connection.

    The first connection comes before any user code exists in the container, and is given a ticket that user
    code never sees. From then on only who shows it may connect (after this sidecar or the connection was lost).
    While somebody is connected nothing listens, so that whoever else tries is refused by the kernel and costs
    nothing here.
    """

    def __init__(self, directory: Path, ticket: Ticket, handle: Handle, closed: Callable[[], None]) -> None:
        self.directory = directory
        self.ticket = ticket
        self._handle = handle
        self._closed = closed
        self._server: asyncio.Server | None = None
        #: Who is connected, admitted or not.
        self._guest: asyncio.StreamWriter | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._shut = False
        self._refused = 0

    @property
    def connected(self) -> bool:
        return self._writer is not None

    async def open(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / wire.SOCKET_NAME
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, path)
        # any user of the container may connect as far as the file system goes; the mount is what tells them apart
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
        self._guest = writer
        if self._server is not None:
            self._server.close()
        try:
            line = await self._first_line(reader)
            request = wire.decode(line)
            if self.ticket.admits(request.get("ticket")):
                self._writer = writer
                self._refused = 0
                await self._read(reader, line)
            else:
                self._turn_away("no ticket")
                refusal = wire.refusal(request, "no_ticket", "another process has connected before")
                writer.write(wire.encode(refusal))
        except (ConnectionError, wire.ProtocolError) as error:
            if self._writer is None:
                self._turn_away(str(error))
            else:
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
        lines = wire.LineBuffer()
        room = asyncio.Semaphore(_IN_FLIGHT)
        while data:
            for message in lines.feed(data):
                await room.acquire()
                task = asyncio.create_task(self._answer(message, self._writer))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                task.add_done_callback(lambda _: room.release())
            data = await reader.read(256 * 1024)

    async def _answer(self, request: wire.Message, writer: asyncio.StreamWriter | None) -> None:
        try:
            line = wire.encode(await self._handle(request))
        except Exception as error:
            # what nobody answers is waited for without end
            log.exception("a request could not be carried out", directory=self.directory.name)
            line = wire.encode(
                wire.refusal(request, "sidecar_failed", f"the sidecar failed: {type(error).__name__}")
            )
        if writer is not None and not writer.is_closing():
            writer.write(line)
            with contextlib.suppress(ConnectionError):
                await writer.drain()

    def _drop(self) -> None:
        guest, self._guest, self._writer = self._guest, None, None
        if guest is not None:
            guest.close()


def clear(directory: Path) -> None:
    """Takes away the directory of a container that is gone."""
    with contextlib.suppress(OSError):
        (directory / wire.SOCKET_NAME).unlink(missing_ok=True)
        directory.rmdir()
