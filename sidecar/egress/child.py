"""The egress process as the sidecar has it: started, told everything, started again, heard."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog

from sidecar.egress import messages
from sidecar.egress.messages import Begun, Close, Counts, Down, Forget, Line, Listen, Listening, Open, Splitter, Up
from sidecar.egress.records import Entry, HostCount, added
from sidecar.egress.rules import Limits

log = structlog.get_logger()

#: What the process is given of this one's environment: nothing of Samovar's.
_KEPT = (
    *("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LANG", "LC_ALL", "LC_CTYPE", "TZ"),
    *("RES_OPTIONS", "LOCALDOMAIN"),
)
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
#: Seconds to listen, or to end an attempt's connections, before that goes on without.
_PATIENCE = 5.0
#: Seconds before it is started again.
_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_READ = 256 * 1024
#: Bytes that wait for it to read them; beyond, it hangs, and is ended.
_UNREAD = 64 * 1024 * 1024


class NotListening(OSError):
    """The egress process does not listen for a container; the message says why."""


@dataclass
class Reached:
    """What an attempt has reached, over all egress processes that it has had."""

    container: str
    attempt: str
    say: Callable[[Entry], None]
    changed: Callable[[], None]
    spent: int = 0
    hosts: list[HostCount] = field(default_factory=list)
    #: Of processes that are gone.
    before: list[HostCount] = field(default_factory=list)
    #: Done when nothing of it is open any more.
    closing: asyncio.Future[None] | None = None


@dataclass
class _Container:
    listen: Listen
    attempt: Reached | None = None
    listening: asyncio.Future[None] | None = None
    #: Whether user code may be in it.
    begun: bool = False


class Child:
    """One process for all containers of the host; it is there from the first that wants egress on."""

    def __init__(self, hosts: Path | None, environment: Mapping[str, str] = os.environ) -> None:
        self._hosts = hosts
        self._environment = _environment(environment)
        self._containers: dict[str, _Container] = {}
        #: Every attempt that may have something open, or to say, by container and attempt.
        self._reached: dict[tuple[str, str], Reached] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def listen(self, container: str, path: Path, limits: Limits) -> None:
        """Returns when it listens. Raises NotListening."""
        known = self._containers.get(container)
        message = Listen(container, str(path), limits)
        if known is None:
            known = self._containers[container] = _Container(message)
        elif known.listen == message and known.listening is None:
            return
        known.listen = message
        if known.listening is None or known.listening.done():
            known.listening = asyncio.get_running_loop().create_future()
        listening = known.listening
        if self._task is None:
            self._task = asyncio.create_task(self._supervise())
        else:
            self._say(message)
        try:
            async with asyncio.timeout(_PATIENCE):
                await asyncio.shield(listening)
        except TimeoutError:
            raise NotListening("the egress process does not answer") from None
        finally:
            if known.listening is listening and listening.done():
                known.listening = None

    def open(
        self, container: str, attempt: str, say: Callable[[Entry], None], changed: Callable[[], None]
    ) -> Reached | None:
        """Binds `attempt`; None where nothing listens for the container.

        `say` takes a line for its log; `changed` is called when there are new counts of it.
        """
        known = self._containers.get(container)
        if known is None:
            return None
        reached = Reached(container, attempt, say, changed)
        known.attempt = self._reached[container, attempt] = reached
        self._say(Open(container, attempt))
        return reached

    def begun(self, container: str) -> None:
        """Process 1 has handed over what it had to: from now on user code may be in the container."""
        known = self._containers.get(container)
        if known is not None and not known.begun:
            known.begun = True
            self._say(Begun(container))

    async def close(self, reached: Reached) -> None:
        """Ends what the attempt has open; when it returns, its last counts and lines are here."""
        key = (reached.container, reached.attempt)
        if self._reached.get(key) is not reached:
            return
        self.drop(reached)
        assert reached.closing is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await asyncio.shield(reached.closing)
        if self._reached.get(key) is reached:
            del self._reached[key]

    def drop(self, reached: Reached) -> None:
        """The same, and does not wait for it."""
        key = (reached.container, reached.attempt)
        if reached.closing is not None or self._reached.get(key) is not reached:
            return
        reached.closing = asyncio.get_running_loop().create_future()
        known = self._containers.get(reached.container)
        if known is not None and known.attempt is reached:
            known.attempt = None
        if self._writer is None:
            self._closed(reached)  # between two processes nothing is open
        else:
            self._say(Close(*key))

    def forget(self, container: str) -> None:
        if self._containers.pop(container, None) is not None:
            self._say(Forget(container))

    async def stop(self) -> None:
        """Ends the process, and every connection with it."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    # ------------------------------------------------------------ the process

    async def _supervise(self) -> None:
        pause = _PAUSE
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._live()
            except OSError as error:
                log.error("the egress process can't be started", problem=str(error))
            log.error("the egress process has ended; it is started again", seconds=round(loop.time() - began, 1))
            pause = _PAUSE if loop.time() - began > _LONGEST_PAUSE else min(pause * 2, _LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _live(self) -> None:
        """One process, from its start to its end."""
        ours, theirs = socket.socketpair()
        with theirs:
            arguments = [str(theirs.fileno())] + ([str(self._hosts)] if self._hosts is not None else [])
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-m", "sidecar.egress"),
                    *arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    env=self._environment,
                    pass_fds=[theirs.fileno()],
                )
            except BaseException:
                ours.close()
                raise
        self._process = process
        try:
            reader, self._writer = await asyncio.open_unix_connection(sock=ours)
            self._tell()
            await self._hear(reader)
        finally:
            if self._writer is not None:
                self._writer.transport.abort()
                self._writer = None
            self._process = None
            self._lost()
            if process.returncode is None:
                process.kill()
            await process.wait()

    def _tell(self) -> None:
        for name, known in self._containers.items():
            self._say(known.listen)
            if known.begun:
                self._say(Begun(name))
            if known.attempt is not None:
                self._say(Open(name, known.attempt.attempt, known.attempt.spent))

    def _say(self, message: Down) -> None:
        if self._writer is None:
            return  # it is told when it is there
        self._writer.write(messages.encode(message))
        if self._writer.transport.get_write_buffer_size() > _UNREAD:
            log.error("the egress process does not listen to the sidecar; it is ended")
            self._writer.transport.abort()

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        splitter = Splitter()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_READ):
                try:
                    for line in splitter.feed(data):
                        self._heard(messages.up(line))
                except (ValueError, msgspec.MsgspecError) as error:
                    log.error("the egress process says what is not understood", problem=str(error)[:500])
                    return

    def _heard(self, message: Up) -> None:
        if isinstance(message, Listening):
            known = self._containers.get(message.container)
            if known is None or known.listening is None or known.listening.done():
                return
            if message.problem is None:
                known.listening.set_result(None)
            else:
                known.listening.set_exception(NotListening(message.problem))
            return
        reached = self._reached.get((message.container, message.attempt))
        if reached is None:
            return
        if isinstance(message, Line):
            reached.say(Entry(message.level, message.message))
        elif isinstance(message, Counts):
            reached.spent = message.spent
            reached.hosts = added(reached.before, message.hosts)
            reached.changed()
        else:
            self._closed(reached)

    def _closed(self, reached: Reached) -> None:
        if reached.closing is not None:
            self._reached.pop((reached.container, reached.attempt), None)
            if not reached.closing.done():
                reached.closing.set_result(None)

    def _lost(self) -> None:
        """The process is gone, and all connections with it."""
        for reached in list(self._reached.values()):
            reached.before = reached.hosts
            if reached.closing is not None:
                self._closed(reached)
            elif reached.hosts:
                reached.say(Entry("warning", "the egress process has ended, and the run's connections with it"))


def _environment(all_of: Mapping[str, str]) -> dict[str, str]:
    names = (*_KEPT, *_PROXIES, *(name.lower() for name in _PROXIES))
    return {name: all_of[name] for name in names if name in all_of}
