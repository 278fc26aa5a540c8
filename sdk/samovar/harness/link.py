"""The harness's one connection to its sidecar.

Requests are numbered and kept until they are answered. The sidecar may die and come back: the link connects
again (after 50 ms, growing to 500 ms), says hello, and sends every unanswered request once more, in order.
"""

from __future__ import annotations

import re
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from samovar import wire
from samovar.wire import Message

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 0.5
_READ = 256 * 1024

#: A reply of more bytes than this goes on as it came, where that is all that becomes of it.
_LONG = 64 * 1024
_REPLY = re.compile(rb'\{"reply":(\d{1,18}),')

OnReply = Callable[[Message], None]
#: Takes what comes after the number in the line of a reply: a comma, and the rest of the object.
OnLine = Callable[[memoryview], None]


class LinkLost(Exception):
    """There has been no sidecar for the whole disconnect limit, or it refuses this container."""


class Link:
    """One connection after another to the socket at `path`."""

    def __init__(self, path: str, limit: float, hello: Callable[[], Message]) -> None:
        self._path = path
        self._limit = limit
        self._hello = hello
        #: Called with every message that is no reply: `assign` and `cancel`.
        self.on_message: OnReply = lambda message: None
        self._selector: selectors.BaseSelector | None = None
        self._socket: socket.socket | None = None
        self._lines = wire.LineBuffer()
        self._out: deque[memoryview] = deque()
        self._unanswered: dict[int, tuple[bytes, OnReply | None, OnLine | None]] = {}
        self._hello_id = 0
        #: What the sidecar gave to the first connection, and asks of every later one.
        self._ticket: str | None = None
        self._number = 0
        self._lost_at = time.monotonic()
        self._pause = _FIRST_PAUSE
        self._retry_at = 0.0
        #: Bytes of unanswered requests.
        self.unanswered_bytes = 0

    @property
    def connected(self) -> bool:
        return self._socket is not None

    @property
    def unanswered(self) -> int:
        """How many requests wait for their answer."""
        return len(self._unanswered)

    def use(self, selector: selectors.BaseSelector) -> None:
        """Have the loop of `selector` serve the connection from now on."""
        self._selector = selector
        if self._socket is not None:
            self._watch()

    def close(self) -> None:
        """Let go of the connection, for a forked process."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def request(self, message: Message, on_reply: OnReply | None = None, on_line: OnLine | None = None) -> None:
        """Send `message` under a number of its own. Raises ProtocolError where it can't be a line.

        `on_line` is called instead of `on_reply` with a reply that is long: to look into it would take several
        times its size out of the memory that the task has.
        """
        self._number += 1
        try:
            line = wire.encode({"id": self._number, **message})
        except (ValueError, RecursionError) as error:  # NaN, or nested too deep
            raise wire.ProtocolError(str(error)) from None
        self._unanswered[self._number] = (line, on_reply, on_line)
        self.unanswered_bytes += len(line)
        if self._socket is not None:
            self._send(line)

    def deadline(self) -> float | None:
        """When `tick` is to be called next, by the monotonic clock; None while connected."""
        return None if self._socket is not None else min(self._retry_at, self._lost_at + self._limit)

    def tick(self) -> None:
        """Connect again if it is time to. Raises LinkLost when the limit has passed."""
        now = time.monotonic()
        if self._socket is not None:
            return
        if now - self._lost_at >= self._limit:
            raise LinkLost(f"no sidecar at {self._path} for {self._limit:g} s")
        if now >= self._retry_at:
            self._connect()

    def greet(self) -> None:
        """Connect and wait until the hello is answered, without reading the answer. Raises LinkLost.

        The ticket is in it: what is forked from here has no copy of it, and whatever runs in there can't be the
        first to connect any more.
        """
        answered = b""
        while not answered:
            self.tick()
            if self._socket is None:
                time.sleep(max(0.0, (self.deadline() or 0.0) - time.monotonic()))
                continue
            self._socket.settimeout(self._limit)
            with suppress(OSError):
                answered = self._socket.recv(1, socket.MSG_PEEK)
            self._socket.setblocking(False)
            if not answered:
                self._lose()

    def _connect(self) -> None:
        fresh = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            fresh.connect(self._path)
        except OSError:
            fresh.close()
            self._retry_at = time.monotonic() + self._pause
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
            return
        fresh.setblocking(False)
        self._socket = fresh
        self._lines = wire.LineBuffer()
        self._number += 1
        self._hello_id = self._number
        self._out.clear()
        self._watch()
        self._send(wire.encode({"id": self._hello_id, **self._hello(), "ticket": self._ticket}))
        for line, _, _ in list(self._unanswered.values()):
            self._send(line)

    def _lose(self) -> None:
        if self._socket is None:
            return
        if self._selector is not None:
            self._selector.unregister(self._socket)
        self._socket.close()
        self._socket = None
        self._out.clear()
        self._lost_at = time.monotonic()
        self._retry_at = self._lost_at + self._pause

    def _send(self, line: bytes) -> None:
        waiting = bool(self._out)
        self._out.append(memoryview(line))
        if not waiting:
            self._flush()

    def _flush(self) -> None:
        if self._socket is None:
            return
        try:
            while self._out:
                sent = self._socket.send(self._out[0])
                if sent == len(self._out[0]):
                    self._out.popleft()
                else:
                    self._out[0] = self._out[0][sent:]
        except BlockingIOError:
            pass
        except OSError:
            # the reader sees the end too, and there may be answers left to read before it
            self._out.clear()
        self._watch()

    def _watch(self) -> None:
        if self._selector is None or self._socket is None:
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out else 0)
        try:
            if self._selector.get_key(self._socket).events != events:
                self._selector.modify(self._socket, events, self.handle)
        except KeyError:
            self._selector.register(self._socket, events, self.handle)

    def handle(self, mask: int) -> None:
        """Serve the connection after the selector said that it is ready."""
        if mask & selectors.EVENT_WRITE:
            self._flush()
        if not mask & selectors.EVENT_READ or self._socket is None:
            return
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        try:
            lines = self._lines.lines(data)
        except wire.ProtocolError:
            self._lose()
            return
        for line in lines:
            if len(line) > _LONG and self._pass_on(line):
                continue
            try:
                message = wire.decode(line)
            except wire.ProtocolError:
                self._lose()
                return
            if "reply" in message:
                self._answer(message)
            else:
                self.on_message(message)

    def _pass_on(self, line: bytes) -> bool:
        """Whether the line is a reply that somebody takes as it came."""
        found = _REPLY.match(line)
        number = int(found[1]) if found is not None else 0
        asked, _, on_line = self._unanswered.get(number, (b"", None, None))
        if found is None or on_line is None:
            return False
        del self._unanswered[number]
        self.unanswered_bytes -= len(asked)
        on_line(memoryview(line)[found.end() - 1 :])
        return True

    def _answer(self, message: Message) -> None:
        number = message["reply"]
        if number == self._hello_id:
            if not message.get("ok"):
                raise LinkLost(f"the sidecar refused this container: {message.get('error')}")
            self._pause = _FIRST_PAUSE
            self._ticket = message.get("ticket") or self._ticket
            return
        line, on_reply, _ = self._unanswered.pop(number, (b"", None, None))
        self.unanswered_bytes -= len(line)
        if on_reply is not None:
            on_reply(message)
