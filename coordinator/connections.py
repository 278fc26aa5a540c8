"""Connections before anybody is known: how many, how long they may be silent, and how much they may send first.

A connection that sends nothing, half a header or a body by the drop costs a descriptor and some memory. So each
address has so many, all together so many, a header has a size and a deadline, and a body a least speed. Where there
are too many, the oldest one that has no request in progress makes room. Runners and sidecars may have listeners of
their own: with room of their own, down to the descriptors.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

#: Bytes of a request's line and headers together, of its address, and how many headers.
MAX_HEADER_BYTES = 32 * 1024
MAX_URL = 8 * 1024
MAX_HEADERS = 100
#: Requests of one connection that wait for the one before them.
MAX_PIPELINED = 16
#: Bytes that are passed over after a request was refused unread.
MAX_DISCARDED = 32 * 1024 * 1024
#: Seconds until the first byte, and from there until the headers are complete.
FIRST_BYTE = 10.0
HEADER = 10.0
#: A body has to bring so many bytes in so many seconds.
BODY_PERIOD = 10.0
BODY_LEAST = 8 * 1024


#: Connections that the system holds for a listener until they are accepted.
BACKLOG = 2048


class Room(NamedTuple):
    """Connections at once: of everybody, of the fleet, and of everybody's those that are not accepted yet."""

    everybody: int
    fleet: int
    backlog: int


def room(descriptors: int, most: int, apart: bool) -> Room:
    """How `descriptors` files are divided. `apart`: whether the fleet has listeners of its own.

    Then a quarter is the fleet's alone. Another one is left for connections of everybody's that have been accepted
    to be refused: as many come at once as were waiting.
    """
    if not apart:
        return Room(min(most, max(16, descriptors)), 0, BACKLOG)
    quarter = max(8, descriptors // 4)
    return Room(min(most, 2 * quarter), min(most, quarter), min(BACKLOG, max(1, quarter // 2)))


class Doorkeeper:
    """Counts the connections of one listener. Used from the event loop's thread only."""

    def __init__(self, most: int, per_address: int, trusted: frozenset[str] = frozenset()) -> None:
        self._most, self._per_address, self._trusted = most, per_address, trusted
        self._open: dict[Guarded, str] = {}
        self._by_address: dict[str, dict[Guarded, None]] = {}

    def admit(self, connection: Guarded, address: str) -> bool:
        """Whether there is room; it may be made by closing an older connection that is idle."""
        theirs = self._by_address.get(address, {})
        full = len(theirs) >= self._per_address and address not in self._trusted
        if full or len(self._open) >= self._most:
            idle = next((other for other in (theirs if full else self._open) if other.is_idle), None)
            if idle is None:
                return False
            idle.end()
        self._open[connection] = address
        self._by_address.setdefault(address, {})[connection] = None
        return True

    def leave(self, connection: Guarded) -> None:
        address = self._open.pop(connection, None)
        if address is not None:
            theirs = self._by_address[address]
            theirs.pop(connection, None)
            if not theirs:
                del self._by_address[address]

    def protocol(self) -> type[Guarded]:
        """A protocol class for uvicorn whose connections this one counts."""
        return type("GuardedProtocol", (Guarded,), {"doorkeeper": self})


class _Refused(Exception):
    pass


class Guarded(HttpToolsProtocol):
    """uvicorn's protocol with limits on what comes before the application is asked."""

    doorkeeper: Doorkeeper

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._state = "first"
        self._size = self._count = self._discarded = 0
        self._status = 400
        address = self.client[0] if self.client else ""
        if not self.doorkeeper.admit(self, address):
            self._status = 503
            self.send_400_response("too many connections: end one first")
            return
        self._arm(FIRST_BYTE)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self.doorkeeper.leave(self)
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether it has no request in progress that the application knows of."""
        return self._state in ("first", "header") or (
            self._state == "done" and (self.cycle is None or self.cycle.response_complete)
        )

    def end(self) -> None:
        """Closes it, to make room."""
        self.doorkeeper.leave(self)
        self.transport.abort()

    # ------------------------------------------------------------ what comes

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._state in ("first", "done", "header"):
            self._size += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._state == "header" and self._size > MAX_HEADER_BYTES:
            self._refuse(431, "the headers are too large")
        elif self._state == "done" and self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._arm(FIRST_BYTE)  # line breaks, which begin no request

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if len(self.pipeline) >= MAX_PIPELINED:
            self._status = 429
            raise _Refused
        self._state, self._count = "header", 0
        self._url_size = 0
        self._disarm()
        self._arm(HEADER)

    def on_url(self, url: bytes) -> None:
        self._url_size += len(url)
        if self._url_size > MAX_URL:
            self._status = 414
            raise _Refused
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count += 1
        self._url_size += len(name) + len(value) + 4
        if self._count > MAX_HEADERS or self._url_size > MAX_HEADER_BYTES:
            self._status = 431
            raise _Refused
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._state, self._size = "body", 0
        self._disarm()
        super().on_headers_complete()
        self._arm(BODY_PERIOD)

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self.cycle.response_complete:
            self._discarded += len(body)
            if self._discarded > MAX_DISCARDED:
                self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._disarm()
        self._state, self._size, self._discarded = "done", 0, 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        if self._status == 400:
            super().send_400_response(msg)
            return
        text = {
            414: f"the address is longer than {MAX_URL} bytes",
            429: "too many requests one after another without waiting",
            431: f"more than {MAX_HEADERS} headers, or {MAX_HEADER_BYTES} bytes of them",
        }.get(self._status, msg)
        self._refuse(self._status, text)

    # ------------------------------------------------------------ deadlines

    def _arm(self, seconds: float) -> None:
        self._timer = self.loop.call_later(seconds, self._late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self._state == "body":
            # while the application does not read, it is not the sender who is slow
            if self._size >= BODY_LEAST or self.flow.read_paused:
                self._size = 0
                self._arm(BODY_PERIOD)
                return
            if self.cycle is not None and self.cycle.response_started:
                self.transport.abort()
                return
        self._refuse(408, "the request did not come in time")

    def _refuse(self, status: int, message: str) -> None:
        text = message.encode()
        head = (
            b"content-type: text/plain; charset=utf-8\r\ncontent-length: "
            + str(len(text)).encode()
            + b"\r\nconnection: close\r\n\r\n"
        )
        if status == 503:
            head = b"retry-after: 1\r\n" + head
        self.transport.write(STATUS_LINE[status] + head + text)
        self.transport.close()


def trusted(proxies: str) -> frozenset[str]:
    """The addresses in a list with commas."""
    return frozenset(filter(None, (part.strip() for part in proxies.split(","))))


def options(doorkeeper: Doorkeeper, proxies: str) -> dict[str, Any]:
    """uvicorn's settings for a listener with these limits."""
    return {
        "http": doorkeeper.protocol(),
        "ws": "none",
        "proxy_headers": bool(proxies),
        "forwarded_allow_ips": proxies or None,
    }
