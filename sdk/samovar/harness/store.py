"""A run's process talking to process 1: checkpoints, reports and log records over the inherited socketpair."""

from __future__ import annotations

import _socket
import os
import signal
import socket
import threading
from contextlib import suppress
from typing import Any

from samovar import wire
from samovar.errors import ApiError, Canceled, CheckpointError, InvalidPayload, NonDeterministic
from samovar.harness.transfers import Desk
from samovar.values.file import File
from samovar.wire import Message

#: As much as an assignment mostly has: memory for more is asked of the kernel, and given back to it, each time.
_READ = 32 * 1024
#: Signals that have handlers in Python; of the others, those of a crash, the process dies where it stands.
_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP}
_HANDLED = signal.valid_signals() - _CRASHES


class WireStore:
    """The Store (see samovar.running.run) of a run in a container. Any thread may call it."""

    def __init__(self, connection: _socket.socket) -> None:
        self._socket = connection
        self._lines = wire.LineBuffer()
        self._received: list[Message] = []
        self._process = os.getpid()
        self._main = threading.main_thread().ident
        #: One request at a time: whoever holds it reads the answer.
        self._asking = threading.Lock()
        self._sending = threading.RLock()
        #: What a signal's handler has said while its thread was sending: it goes after that.
        self._said: list[bytes] = []
        self._is_sending = False
        self._number = 0
        #: Where files are kept; known with the assignment.
        self.desk: Desk | None = None
        self._known: dict[str, Any] = {}
        self._complete = False
        self._waits: dict[str, Message] = {}
        #: Seconds that were asked for beyond the task's timeout.
        self._extended = 0.0
        self._extending = threading.Lock()
        #: SIGTERM came while the main thread was in a request: it is raised when that has ended.
        self.terminated = False
        self._main_is_asking = False

    @property
    def owned(self) -> bool:
        """Whether this is the process that the run began in, not a fork of it."""
        return os.getpid() == self._process

    def close(self) -> None:
        """The run is over: who asks from now on is told that the harness is gone."""
        self._socket.close()

    def receive(self) -> Message:
        """The next message from process 1. Raises CheckpointError when it is gone."""
        while not self._received:
            data = self._socket.recv(_READ)
            if not data:
                raise CheckpointError("the harness is gone")
            self._received.extend(self._lines.feed(data))
        return self._received.pop(0)

    def preload(self, checkpoints: list[dict[str, Any]], complete: bool) -> None:
        """Know these checkpoints; where they are `complete`, any other key has none."""
        self._known = {entry["key"]: entry["value"] for entry in checkpoints}
        self._complete = complete

    def preload_waits(self, waits: list[dict[str, Any]]) -> None:
        """Know these waits that are over; of those without an answer it has to be asked for."""
        self._waits = {entry["key"]: entry for entry in waits}

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(self._known) | frozenset(self._waits)

    def get(self, key: str) -> tuple[bool, Any]:
        if key in self._known:
            return True, self._known[key]
        if self._complete:
            return False, None
        reply = self._ask({"type": wire.CHECKPOINT_GET, "key": key})
        if not reply.get("found"):
            return False, None
        self._known[key] = reply.get("value")
        return True, self._known[key]

    def put(self, key: str, value: Any, took_ms: float | None = None) -> Any:
        took = None if took_ms is None else round(took_ms, 3)
        reply = self._ask({"type": wire.CHECKPOINT_PUT, "key": key, "took_ms": took, "value": value})
        self._known[key] = value if reply.get("stored") else reply.get("value")
        return self._known[key]

    def known_wait(self, key: str) -> Message | None:
        return self._waits.get(key)

    def wait(self, kind: str, key: str, name: str | None, spec: Message) -> Message:
        return self._ask({"type": wire.WAIT, "kind": kind, "key": key, "name": name, "spec": spec})

    def wait_result(self, key: str, index: int) -> Message:
        return self._ask({"type": wire.WAIT_RESULT, "key": key, "index": index})

    def report(self, progress: Message | None, metadata: Message | None) -> None:
        self.send({"type": wire.REPORT, "progress": progress, "metadata": metadata})

    def extend(self, seconds: float) -> None:
        with self._extending:
            self._extended += seconds
            total = self._extended
        try:
            # all of it each time: a request that is sent again after a lost connection asks for nothing more
            self._ask({"type": wire.EXTEND, "seconds": total})
        except BaseException:
            with self._extending:
                self._extended -= seconds
            raise

    def keep_file(self, name: str, path: str, media_type: str) -> File:
        if self.desk is None:
            raise CheckpointError("the run has not begun")
        return self.desk.keep(name, path, media_type)

    def send(self, *messages: Message) -> None:
        """Send what gets no answer, at once. Raises CheckpointError in a forked process."""
        self._check_owner()
        line = b"".join(map(wire.encode, messages))
        if threading.get_ident() != self._main:
            self._put(line)
            return
        # a SIGTERM that raised in here would leave half a line on the socket
        was_asking, self._main_is_asking = self._main_is_asking, True
        try:
            self._put(line)
        finally:
            self._main_is_asking = was_asking
        if not was_asking and self.terminated:
            self.terminated = False
            raise Canceled("the run is canceled or has timed out")

    def _put(self, line: bytes) -> None:
        with self._sending:
            self._said.append(line)
            if self._is_sending:
                return
            self._is_sending = True
            try:
                while self._said:
                    self._write(self._said.pop(0))
            finally:
                self._is_sending = False

    def _write(self, line: bytes) -> None:
        sent = 0
        with suppress(BlockingIOError):
            sent = self._socket.send(line, socket.MSG_DONTWAIT)
        if sent == len(line):
            return
        # it takes a while: what a signal's handler raises (a timeout of the task's own) waits for the line's end
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
            self._socket.sendall(line[sent:])
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def defer_termination(self) -> bool:
        """For the SIGTERM handler: whether it must wait for a request of the main thread to end."""
        self.terminated = self._main_is_asking
        return self.terminated

    def _ask(self, message: Message) -> Message:
        self._check_owner()
        is_main = threading.get_ident() == self._main
        self._main_is_asking = self._main_is_asking or is_main
        try:
            reply = self._round_trip(message)
        except OSError as error:
            raise CheckpointError(f"{message['type']}: the harness is gone ({error})") from None
        finally:
            if is_main:
                self._main_is_asking = False
        if is_main and self.terminated:
            self.terminated = False
            raise Canceled("the run is canceled or has timed out")
        if not reply.get("ok"):
            error_body = reply.get("error") or {}
            if message["type"] in (wire.WAIT, wire.CHECKPOINT_PUT, wire.CHECKPOINT_GET):
                _raise_known(message, error_body)
            what = f"checkpoint {message['key']!r}" if "key" in message else str(message["type"])
            raise CheckpointError(f"{what}: {error_body.get('message') or error_body.get('code') or 'refused'}")
        return reply

    def _round_trip(self, message: Message) -> Message:
        with self._asking:
            self._number += 1
            number = self._number
            self.send({"id": number, **message})
            while True:
                reply = self.receive()
                if reply.get("reply") == number:  # an older one is of a request that was given up
                    return reply

    def _check_owner(self) -> None:
        if not self.owned:
            raise CheckpointError(
                "this is a process that the task has started: checkpoints, progress and metadata belong to the "
                "task's own process; hand results back to it"
            )


def _raise_known(message: Message, error: Message) -> None:
    """What the coordinator has refused as the exception that says it best, where there is one."""
    code, text, fields = str(error.get("code")), str(error.get("message")), error.get("fields") or []
    if code == "nondeterministic":
        raise NonDeterministic(text)
    if message["type"] != wire.WAIT or code in ("stale_attempt", "sidecar_failed", "coordinator_failed"):
        return
    if code in ("bad_payload", "bad_batch"):
        raise InvalidPayload(str(message.get("name")), fields)
    raise ApiError(int(error.get("status") or 0), code, text, fields)
