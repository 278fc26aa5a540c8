"""The runner's connection: what it asks and how that is answered, and what it is told unasked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable

import msgspec
import structlog
from pydantic import ValidationError
from samovar import wire

from coordinator.wire.control import (
    DOWN,
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
from sidecar import peers
from sidecar.control import Sidecar
from sidecar.errors import Refused

log = structlog.get_logger()

#: Seconds for the first line.
_PATIENCE = 10.0
#: Requests that are being answered at once, and bytes of them; past it the sidecar stops reading.
_IN_FLIGHT = 256
_BYTES_IN_FLIGHT = 64 * 1024 * 1024
#: Events that were said and are not acknowledged; past it they wait where they are kept.
_UNACKNOWLEDGED = 4096
#: Errors of one line that are named.
_NAMED = 5


class Control:
    """The place of the runner: one connection has it, until it ends or a newer one of the same user takes it."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.sidecar = sidecar
        self.events = sidecar.events
        self.events.on_more(self._more)
        self._sessions: set[Session] = set()
        self._holder: Session | None = None
        self._flushing = False

    def session(self) -> Session:
        """For a connection that comes in."""
        return Session(self)

    def enter(self, session: Session) -> None:
        """Gives the place to a connection that has said hello. Raises Refused where another user has it."""
        holder = self._holder
        if holder is not None:
            if holder.user != session.user:
                raise Refused("taken", f"user {holder.user} controls this sidecar already")
            log.warning("another runner has connected; the one before is let go")
            holder.refuse(None, "replaced", "another runner has connected to this sidecar")
            holder.close()
        self._holder = session

    def came(self, session: Session) -> None:
        self._sessions.add(session)

    def left(self, session: Session) -> None:
        self._sessions.discard(session)
        if self._holder is session:
            self._holder = None

    async def close(self, patience: float) -> None:
        """Ends every connection, at the latest after `patience` seconds for what is being answered."""
        answering = [task for session in self._sessions for task in session.answering]
        if answering:
            await asyncio.wait(answering, timeout=patience)
        for session in list(self._sessions):
            session.close()

    def _more(self) -> None:
        if self._holder is not None and not self._flushing:
            self._flushing = True
            # what happens in one step of the loop goes out together
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._holder is not None:
            self._holder.flush()


class Session(Stream):
    """One connection. Before its hello it is nobody's; what it says that is no line of the protocol ends it."""

    def __init__(self, control: Control) -> None:
        super().__init__(wire.LineBuffer().lines)
        self._control = control
        self._sidecar, self._events = control.sidecar, control.events
        self.user = -1
        self.answering: set[asyncio.Task[None]] = set()
        #: The last request about each name that is still being answered.
        self._last: dict[str, asyncio.Task[None]] = {}
        self._bytes = 0
        self._late: asyncio.TimerHandle | None = None
        self._greeted = False
        #: The last event that was said; the numbers of those that are not acknowledged.
        self._said = 0
        self._sent: deque[int] = deque()

    # ------------------------------------------------------------ the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.user = peers.uid_of(transport)
        if peers.may_control(self.user):
            self._control.came(self)
            self._late = asyncio.get_running_loop().call_later(_PATIENCE, self._break, "no_hello", "no hello came")
            return
        log.warning("refused a control connection", user=self.user)
        self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if self._late is not None:
            self._late.cancel()
        self._control.left(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._pace()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._pace()
        self.flush()

    def _pace(self) -> None:
        """Reads only while answers are read, and not too many are being made."""
        if self._transport is None or self._transport.is_closing():
            return
        full = len(self.answering) >= _IN_FLIGHT or self._bytes >= _BYTES_IN_FLIGHT
        reading = self._transport.is_reading()
        if reading and (full or not self.has_room):
            self._transport.pause_reading()
        elif not reading and not full and self.has_room:
            self._transport.resume_reading()

    # ------------------------------------------------------------ what the runner says

    def garbled(self, problem: str) -> None:
        self._break("protocol", problem)

    def heard(self, line: bytes) -> None:
        try:
            said = DOWN.validate_json(line)
        except ValidationError as error:
            self._misheard(line, error)
            return
        if isinstance(said, Hello):
            self._greet(said)
        elif not self._greeted:
            self._break("no_hello", "say hello first")
        else:
            self._acknowledge(said.seen)
            if not isinstance(said, Seen):
                self._carry_out(said, len(line))

    def _misheard(self, line: bytes, error: ValidationError) -> None:
        problem = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_url=False)[:_NAMED]
        )
        number = _number(line)
        if self._greeted and number is not None:
            self.refuse(number, "bad_request", problem)
        else:
            self._break("protocol", f"not a line of the control protocol: {problem}")

    def _greet(self, hello: Hello) -> None:
        if self._greeted:
            self._break("protocol", "a second hello")
            return
        try:
            self._control.enter(self)
        except Refused as error:
            self._break(error.code, str(error))
            return
        self._greeted = True
        if self._late is not None:
            self._late.cancel()
        # who comes from before this process registers everything again, and hears the state of it
        self._said = hello.seen if hello.boot == self._events.boot else self._events.seq
        self._events.acknowledge(self._said)
        self.say(_line(Welcome(boot=self._events.boot, seq=self._said)))
        self.flush()

    def _acknowledge(self, seq: int) -> None:
        if not self._sent or seq < self._sent[0]:
            return
        full = len(self._sent) >= _UNACKNOWLEDGED
        while self._sent and self._sent[0] <= seq:
            self._sent.popleft()
        self._events.acknowledge(min(seq, self._said))
        if full:
            self.flush()

    # ------------------------------------------------------------ what it is told

    def flush(self) -> None:
        """Says the events that have not been said, as many as the runner reads."""
        if not self._greeted or not self.has_room or len(self._sent) >= _UNACKNOWLEDGED:
            return
        lines = bytearray()
        for event in self._events.after(self._said)[: _UNACKNOWLEDGED - len(self._sent)]:
            lines += _line(Happened(event=event))
            self._said = event.seq
            self._sent.append(event.seq)
        if lines:
            self.say(bytes(lines))

    def refuse(self, number: int | None, code: str, message: str) -> None:
        self.say(_line(Refusal(id=number, code=code, message=message)))

    def _break(self, code: str, message: str) -> None:
        log.warning("ending a control connection", code=code, problem=message[:500])
        self.refuse(None, code, message[:2000])
        self.close()

    def _reply(self, reply: Reply) -> None:
        self.flush()  # what has happened before an answer is heard before it
        self.say(_line(reply))

    # ------------------------------------------------------------ what it asks

    def _carry_out(self, ask: Ask, size: int) -> None:
        """Answers, in order what is about one name, and nobody waits for another's."""
        before = self._last.get(ask.name)
        if before is None and isinstance(ask, (ForgetAsk, AssignAsk, CancelAsk)):
            self._at_once(ask)
            return
        task = asyncio.create_task(self._in_time(before, ask))
        self.answering.add(task)
        self._last[ask.name] = task
        self._bytes += size
        name = ask.name

        def done(task: asyncio.Task[None]) -> None:
            self.answering.discard(task)
            if self._last.get(name) is task:
                del self._last[name]
            self._bytes -= size
            self._pace()

        task.add_done_callback(done)
        self._pace()

    def _at_once(self, ask: ForgetAsk | AssignAsk | CancelAsk) -> None:
        try:
            reply = Reply(id=ask.id)
            if isinstance(ask, ForgetAsk):
                self._sidecar.forget(ask.name)
            elif isinstance(ask, AssignAsk):
                self._sidecar.get(ask.name).assign(ask.body.assignment, ask.body.start, ask.body.placing)
            else:
                reply.told = self._sidecar.cancel(ask.name, ask.body)
            self._reply(reply)
        except Refused as error:
            self.refuse(ask.id, error.code, str(error))
        except Exception as error:
            self._failed(ask, error)

    async def _in_time(self, before: Awaitable[None] | None, ask: Ask) -> None:
        if before is not None:
            await asyncio.wait({asyncio.ensure_future(before)})
        if isinstance(ask, (ForgetAsk, AssignAsk, CancelAsk)):
            self._at_once(ask)
            return
        try:
            reply = Reply(id=ask.id)
            if isinstance(ask, RegisterAsk):
                reply.state = await self._sidecar.register(ask.name, ask.body)
            elif isinstance(ask, OpenBuilderAsk):
                await self._sidecar.open_builder(ask.name, ask.body)
            else:
                assert isinstance(ask, CloseBuilderAsk)
                reply.reached = await self._sidecar.close_builder(ask.name)
            self._reply(reply)
        except Refused as error:
            self.refuse(ask.id, error.code, str(error))
        except Exception as error:
            self._failed(ask, error)

    def _failed(self, ask: Ask, error: Exception) -> None:
        # what nobody answers is waited for until its time is over
        log.exception("a request of the runner could not be carried out", asked=ask.type, name=ask.name)
        self.refuse(ask.id, "sidecar_failed", f"the sidecar failed: {type(error).__name__}: {error}")


class _Numbered(msgspec.Struct):
    id: int


def _number(line: bytes) -> int | None:
    """Of a request that can't be taken as it is."""
    try:
        return msgspec.json.decode(line, type=_Numbered).id
    except (msgspec.DecodeError, RecursionError):
        return None


def _line(message: Welcome | Reply | Refusal | Happened) -> bytes:
    return message.model_dump_json(exclude_none=True).encode() + b"\n"
