"""The relay: takes a run's connections on loopback, and carries their bytes to the sidecar and back.

A process of its own, forked from process 1 when a run first connects and ended with the run, so that process 1
stays small and a flood slows nobody but the run. It decides nothing: the sidecar does, and holds every limit. What
leads to the proxy is handed on as it is; what leads to one host is preceded by a CONNECT for it, and reset where
that is refused, with the reason in the run's log.
"""

from __future__ import annotations

import os
import resource
import selectors
import signal
import socket
import time
from contextlib import suppress

from samovar.harness import kernel
from samovar.harness.listeners import RESET, Listener, reset

#: Most connections at a time, and descriptors that are not theirs; more wait in the listeners' lines.
_MOST, _OWN = 1000, 128
#: Bytes read at once, and bytes of all connections together that may wait to be written.
_LARGEST, _SMALLEST, _WAITING = 256 * 1024, 16 * 1024, 8 * 1024 * 1024
#: Reads of one connection in a row: others have their turn.
_TURNS = 4
#: Bytes of a client that go with its CONNECT: a new unix socket takes these and the head in one piece.
_EARLY = 16 * 1024
#: Of an answer to CONNECT.
_LONGEST_HEAD, _LONGEST_REASON = 16 * 1024, 4096
#: Seconds between tries to reach a sidecar that has no room, and until that is given up.
_AGAIN, _PATIENCE = 0.01, 5.0
_AWAY = b"the sidecar of this host does not answer; it may be starting again: try again in some seconds\n"
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


def main(listeners: list[Listener], path: str, notes: int) -> None:
    """Serve until killed. Called in a process that was forked for it."""
    kernel.die_with_parent(signal.SIGKILL)
    kernel.set_dumpable(False)
    os.setsid()
    keep = {notes, *(listener.socket.fileno() for listener in listeners)}
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in keep:
            with suppress(OSError):  # the descriptor of this very listing is closed by now
                os.close(int(name))
    Relay(listeners, path, notes).serve()


class End:
    """One side of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.other: End = self
        #: What the selector watches it for.
        self.events = 0
        #: Bytes for it, which it has not taken yet.
        self.waiting: bytes | memoryview = b""
        #: Whether nothing more comes from it, and whether it has been told that nothing more comes.
        self.ended = False
        self.shut = False


class Opening:
    """A connection to a host, whose CONNECT is not answered yet."""

    def __init__(self, client: socket.socket, listener: Listener) -> None:
        self.client = client
        self.name, self.port = listener.name, listener.port
        self.upstream: socket.socket | None = None
        self.answer = b""
        self.deadline = time.monotonic() + _PATIENCE


class Refused:
    """A client that has its answer. What it goes on to send is read: a close before that would be a reset."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.left = 1024 * 1024


class Relay:
    def __init__(self, listeners: list[Listener], path: str, notes: int) -> None:
        self._path = path
        self._notes = notes
        self._listeners = listeners
        self._selector = selectors.DefaultSelector()
        self._buffer = bytearray(_LARGEST)
        self._view = memoryview(self._buffer)
        self._open = 0
        # each takes two descriptors
        self._most = min(_MOST, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OWN) // 2)
        self._listening = False
        #: Those that the sidecar has no room for yet.
        self._delayed: list[Opening] = []
        self._listen()

    def serve(self) -> None:
        while True:
            for key, mask in self._selector.select(_AGAIN if self._delayed else None):
                what = key.data
                if isinstance(what, End):
                    self._on_end(what, mask)
                elif isinstance(what, Opening):
                    self._on_answer(what)
                elif isinstance(what, Refused):
                    self._on_refused(what)
                else:
                    self._accept(what)
            delayed, self._delayed = self._delayed, []
            for opening in delayed:
                self._reach(opening)

    # ------------------------------------------------------------ new connections

    def _listen(self) -> None:
        """Take connections while there is room for more."""
        wanted = self._open < self._most
        if wanted == self._listening:
            return
        self._listening = wanted
        for listener in self._listeners:
            if wanted:
                self._selector.register(listener.socket, _READ, listener)
            else:
                self._selector.unregister(listener.socket)

    def _accept(self, listener: Listener) -> None:
        try:
            client, _ = listener.socket.accept()
        except OSError:
            return
        self._open += 1
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reach(Opening(client, listener))
        self._listen()

    def _reach(self, opening: Opening) -> None:
        """Connect to the sidecar, which answers at once, has no room, or is not there."""
        upstream = socket.socket(socket.AF_UNIX)
        upstream.setblocking(False)
        try:
            upstream.connect(self._path)
        except BlockingIOError:
            upstream.close()
            if time.monotonic() < opening.deadline:
                self._delayed.append(opening)
            else:
                self._fail(opening, _AWAY)
            return
        except OSError:
            upstream.close()
            self._fail(opening, _AWAY)
            return
        opening.upstream = upstream
        if opening.name is None:
            self._join(opening, b"")
            return
        place = f"{opening.name}:{opening.port}"
        try:
            # with what the client has said by now, which saves a turn; it is not looked at where this is refused
            upstream.send(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode() + _said(opening.client))
        except OSError:
            self._fail(opening, _AWAY)
            return
        self._selector.register(upstream, _READ, opening)

    def _on_answer(self, opening: Opening) -> None:
        assert opening.upstream is not None
        try:
            data = opening.upstream.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        opening.answer += data
        head, end, body = opening.answer.partition(b"\r\n\r\n")
        granted = head.split(b" ", 2)[1:2] == [b"200"]
        if end and granted:
            self._selector.unregister(opening.upstream)
            self._join(opening, body)
        elif not data or len(opening.answer) > _LONGEST_HEAD or (end and len(body) >= _length(head)):
            # a refusal of the sidecar's stands in the run's log already
            self._fail(opening, body or (head if end else _AWAY), said=b"\r\nx-samovar-refused:" in head.lower())

    def _fail(self, opening: Opening, reason: bytes, said: bool = False) -> None:
        upstream, client = opening.upstream, opening.client
        if upstream is not None:
            with suppress(KeyError):
                self._selector.unregister(upstream)
            upstream.close()
        if opening.name is None:  # a client of a proxy understands an answer
            head = b"HTTP/1.1 503 Service Unavailable\r\nX-Samovar-Refused: away\r\nConnection: close\r\n"
            with suppress(OSError):
                client.send(b"%sContent-Length: %d\r\n\r\n%s" % (head, len(reason), reason))
                client.shutdown(socket.SHUT_WR)
            self._selector.register(client, _READ, Refused(client))
            return
        if not said:
            self._note(f"{opening.name}:{opening.port} is not reached: {reason.decode('utf-8', 'replace')}")
        reset(client)
        self._open -= 1
        self._listen()

    def _on_refused(self, refused: Refused) -> None:
        try:
            count = refused.client.recv_into(self._buffer)
        except BlockingIOError:
            return
        except OSError:
            count = 0
        refused.left -= count
        if not count or refused.left < 0:
            self._selector.unregister(refused.client)
            refused.client.close()
            self._open -= 1
            self._listen()

    def _note(self, text: str) -> None:
        line = " ".join(text.split())[:_LONGEST_REASON] + "\n"
        with suppress(OSError):  # process 1 reads when it has time, and the run may have other worries
            os.write(self._notes, line.encode("utf-8", "replace"))

    # ------------------------------------------------------------ bytes both ways

    def _join(self, opening: Opening, first: bytes) -> None:
        """From now on bytes go both ways; `first` has come already."""
        assert opening.upstream is not None
        client, upstream = End(opening.client), End(opening.upstream)
        client.other, upstream.other = upstream, client
        client.waiting = first
        if first:
            self._flush(client)
        else:
            self._carry(client)  # most clients speak first, and have done so by now

    def _on_end(self, end: End, mask: int) -> None:
        if end.socket.fileno() < 0:
            return  # closed by what its other side met in this very turn
        if mask & _WRITE and end.waiting:
            self._flush(end)
        if mask & _READ and end.socket.fileno() >= 0 and not end.other.waiting and not end.ended:
            self._carry(end)

    def _carry(self, source: End) -> None:
        target = source.other
        share = min(_LARGEST, max(_SMALLEST, _WAITING // (2 * max(1, self._open))))
        view = self._view[:share]
        try:
            for _ in range(_TURNS):
                count = source.socket.recv_into(view)
                if not count:
                    source.ended = True
                    break
                sent = _send(target.socket, view[:count])
                if sent < count:
                    target.waiting = bytes(view[sent:count])
                    break
                if count < share:
                    break
        except BlockingIOError:
            pass
        except OSError:
            self._break(source)
            return
        self._watch(source, target)

    def _flush(self, end: End) -> None:
        try:
            sent = _send(end.socket, end.waiting)
        except OSError:
            self._break(end)
            return
        end.waiting = memoryview(end.waiting)[sent:] if sent < len(end.waiting) else b""
        self._watch(end, end.other)

    def _watch(self, *ends: End) -> None:
        """Read from whom the other side can take more; write to whom something waits for; hand an end on."""
        for end in ends:
            if end.other.ended and not end.waiting and not end.shut:
                end.shut = True
                with suppress(OSError):
                    end.socket.shutdown(socket.SHUT_WR)
        if all(end.ended and not end.waiting for end in ends):
            self._close(*ends)
            return
        for end in ends:
            events = _READ if not end.ended and not end.other.waiting else 0
            events |= _WRITE if end.waiting else 0
            if events == end.events:
                continue
            if not events:
                self._selector.unregister(end.socket)
            elif end.events:
                self._selector.modify(end.socket, events, end)
            else:
                self._selector.register(end.socket, events, end)
            end.events = events

    def _break(self, end: End) -> None:
        """One side is gone; the other one is to see an error, not an end of what it was told."""
        for one in (end, end.other):
            with suppress(OSError):
                one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._close(end, end.other)

    def _close(self, *ends: End) -> None:
        for end in ends:
            if end.events:
                self._selector.unregister(end.socket)
                end.events = 0
            end.socket.close()
        self._open -= 1
        self._listen()


def _send(target: socket.socket, data: bytes | memoryview) -> int:
    try:
        return target.send(data)
    except BlockingIOError:
        return 0


def _said(client: socket.socket) -> bytes:
    try:
        return client.recv(_EARLY)
    except OSError:
        return b""


def _length(head: bytes) -> int:
    """Content-Length of an answer; without one it ends with the connection."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return min(int(value), _LONGEST_REASON)
    return _LONGEST_HEAD
