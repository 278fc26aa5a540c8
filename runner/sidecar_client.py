"""The runner's way to the sidecar of its host: one connection over the control socket, that both sides speak on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import ValidationError
from samovar import wire

from coordinator.wire import (
    Assign,
    Assignment,
    CancelAttempt,
    ContainerState,
    Egress,
    Placing,
    Reached,
    Register,
    SidecarEvent,
    Start,
)
from coordinator.wire.control import (
    UP,
    Ask,
    AssignAsk,
    CancelAsk,
    CloseBuilderAsk,
    ForgetAsk,
    Happened,
    Hello,
    OpenBuilderAsk,
    Refusal,
    RegisterAsk,
    Reply,
    Seen,
    Welcome,
)
from coordinator.wire.stream import Stream
from runner.errors import SidecarAway

log = structlog.get_logger()

#: Seconds to connect and be welcomed, and for an answer.
_CONNECT = 10.0
_ANSWER = 10.0
#: Events that were acted on before the sidecar is told so by a line of its own: what is asked says it too.
_UNTOLD = 32


@dataclass(frozen=True)
class Heard:
    """Events of the sidecar's process `boot`, in their order."""

    boot: str
    events: list[SidecarEvent]


class SidecarClient:
    """Raises SidecarAway when the sidecar can't be reached or does not know the container.

    It connects when something is asked of it, and again when the connection has ended. What was asked over one that
    ends is not answered any more: each request may be made again without harm.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = str(socket)
        self._stream: _Connection | None = None
        self._connecting: asyncio.Task[_Connection] | None = None
        self._number = 0
        #: Of the sidecar's process that was connected to last: its name, and the last event that it has said.
        self._boot = ""
        self._last = 0
        #: What it has said and nobody has acted on.
        self._unseen: list[SidecarEvent] = []
        #: The last event that was acted on; and how many such it does not know of.
        self._seen = self._untold = 0
        self._news = asyncio.Event()

    async def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        if self._stream is not None:
            self._stream.close()

    async def register(self, container: str, body: Register) -> ContainerState:
        reply = await self._ask(RegisterAsk(**self._head(), name=container, body=body))
        return reply.state or ContainerState()

    async def forget(self, container: str) -> None:
        await self._ask(ForgetAsk(**self._head(), name=container))

    async def assign(
        self, container: str, assignment: Assignment, start: Start, placing: Placing | None = None
    ) -> None:
        body = Assign(assignment=assignment, start=start, placing=placing)
        await self._ask(AssignAsk(**self._head(), name=container, body=body))

    async def cancel(self, container: str, body: CancelAttempt) -> bool:
        """Whether the container was told; False where it has no connection or another attempt."""
        return (await self._ask(CancelAsk(**self._head(), name=container, body=body))).told

    async def open_builder(self, name: str, body: Egress) -> None:
        """Opens a builder's door, or holds an open one open."""
        await self._ask(OpenBuilderAsk(**self._head(), name=name, body=body))

    async def close_builder(self, name: str) -> Reached:
        reply = await self._ask(CloseBuilderAsk(**self._head(), name=name))
        return reply.reached or Reached()

    async def events(self, boot: str) -> Heard:
        """What the sidecar has said that `seen` has not been called for, as soon as there is any.

        At once, where another process than `boot` is connected: its containers are to be registered again.
        """
        await self._connected()
        while self._boot == boot and not self._unseen:
            self._news.clear()
            await self._news.wait()
            if self._stream is None:
                raise SidecarAway("the connection to the sidecar has ended")
        return Heard(self._boot, list(self._unseen))

    def seen(self, heard: Heard) -> None:
        """Has acted on these events: the sidecar need not keep them."""
        if heard.boot != self._boot or not heard.events:
            return
        self._seen = max(self._seen, heard.events[-1].seq)
        before = len(self._unseen)
        self._unseen = [event for event in self._unseen if event.seq > self._seen]
        self._untold += before - len(self._unseen)
        if self._untold >= _UNTOLD and self._stream is not None:
            self._untold = 0
            self._stream.say(Seen(seen=self._seen).model_dump_json().encode() + b"\n")

    # ------------------------------------------------------------

    def _head(self) -> dict[str, int]:
        """What every request begins with."""
        self._number += 1
        self._untold = 0
        return {"id": self._number, "seen": self._seen}

    async def _ask(self, ask: Ask) -> Reply:
        what = f"{ask.type} {ask.name}"
        line = ask.model_dump_json().encode() + b"\n"
        if len(line) > wire.MAX_LINE:
            raise SidecarAway(f"{what}: {len(line)} bytes are more than a line may have")
        connection = await self._connected()
        try:
            async with asyncio.timeout(_ANSWER):
                answer = await connection.ask(ask.id, line)
        except TimeoutError:
            raise SidecarAway(f"{what}: no answer in {_ANSWER:g} s") from None
        except ConnectionError as error:
            raise SidecarAway(f"{what}: {error}") from None
        if isinstance(answer, Refusal):
            raise SidecarAway(f"{what}: {answer.code}: {answer.message[:300]}")
        return answer

    async def _connected(self) -> _Connection:
        if self._stream is not None and self._stream.open:
            return self._stream
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._tried)
        try:
            return await asyncio.shield(self._connecting)
        except (OSError, TimeoutError) as error:
            raise SidecarAway(f"connecting to {self._socket}: {error!r}") from None

    def _tried(self, task: asyncio.Task[_Connection]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # whoever has waited for it says so

    async def _connect(self) -> _Connection:
        async with asyncio.timeout(_CONNECT):
            connection = _Connection(self)
            await asyncio.get_running_loop().create_unix_connection(lambda: connection, self._socket)
            try:
                connection.say(Hello(boot=self._boot, seen=self._seen).model_dump_json().encode() + b"\n")
                await connection.welcome
            except BaseException:
                connection.abort()
                raise
        return connection

    # ------------------------------------------------------------ what a connection says

    def welcomed(self, connection: _Connection, welcome: Welcome) -> None:
        self._stream = connection
        if welcome.boot != self._boot:
            # what the one before has said and nobody has acted on, its containers say again
            self._boot, self._unseen = welcome.boot, []
            self._last = self._seen = welcome.seq
        self._untold = 0
        self._news.set()

    def happened(self, event: SidecarEvent) -> None:
        if event.seq > self._last:
            self._last = event.seq
            self._unseen.append(event)
            self._news.set()

    def ended(self, connection: _Connection) -> None:
        if self._stream is connection:
            self._stream = None
            self._news.set()


class _Connection(Stream):
    """One connection, to its end."""

    def __init__(self, client: SidecarClient) -> None:
        super().__init__(wire.LineBuffer().lines)
        self._client = client
        self._asked: dict[int, asyncio.Future[Reply | Refusal]] = {}
        self._problem = "the connection has ended"
        self.welcome: asyncio.Future[Welcome] = asyncio.get_running_loop().create_future()

    async def ask(self, number: int, line: bytes) -> Reply | Refusal:
        """The answer. Raises ConnectionError where the connection ends before."""
        await self.room()
        if not self.open:
            raise ConnectionError(self._problem)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self.say(line)
            answered: Reply | Refusal = await answer
            return answered
        finally:
            self._asked.pop(number, None)

    def heard(self, line: bytes) -> None:
        try:
            said = UP.validate_json(line)
        except ValidationError as error:
            self.garbled(f"not a line of the control protocol: {error.errors(include_url=False)[:3]}")
            return
        if isinstance(said, Happened):
            self._client.happened(said.event)
        elif isinstance(said, Welcome):
            self._client.welcomed(self, said)
            if not self.welcome.done():
                self.welcome.set_result(said)
        elif said.id is None:
            assert isinstance(said, Refusal)
            log.warning("the sidecar ends the connection", code=said.code, problem=said.message)
            self._problem = f"{said.code}: {said.message}"
        elif (answer := self._asked.get(said.id)) is not None and not answer.done():
            answer.set_result(said)

    def garbled(self, problem: str) -> None:
        log.error("the sidecar says what can't be read", problem=problem)
        self._problem = problem
        self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._client.ended(self)
        gone = ConnectionError(self._problem if error is None else f"{self._problem}: {error}")
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(gone)
        if not self.welcome.done():
            self.welcome.set_exception(gone)
            self.welcome.exception()  # nobody may be waiting for it
