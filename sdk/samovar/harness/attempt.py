"""One attempt as process 1 sees it: the run's process at the other end of a socketpair and two pipes.

What the process says is checked before it goes on to the sidecar, and is not read faster than it goes.
"""

from __future__ import annotations

import _socket
import json
import math
import os
import selectors
import time
from collections import deque

from samovar import wire
from samovar.harness import output
from samovar.harness.curve import INTERVAL, Curve
from samovar.harness.ends import Ends
from samovar.harness.link import Link
from samovar.harness.logs import BACKLOG, BATCH, FLUSH_DELAY, LEVELS, LineSplitter, LogBook
from samovar.wire import Message

TYPE_CHECKING = False  # of `typing`, which process 1 would import for nothing else
if TYPE_CHECKING:
    from typing import Any

_READ = 256 * 1024
_END = memoryview(b"\n")
#: Above these the process is not read until the sidecar has answered some of what it asked.
_MOST_REQUESTS = 64
_MOST_BYTES = 2 * wire.MAX_LINE
_LONGEST_EXTENSION = 30 * 86400
#: Milliseconds: longer than any computation is not believed.
_LONGEST_STEP = 1e12
#: Seconds after its last word that the run's process has: what it gives its own end (`ending.SECONDS`), and some.
ENDING = 3.0
#: Seconds that it has for its exit, once it has said that nothing comes any more.
_EXIT = 1.0
#: Seconds between two looks at its memory; and after which what they have seen is told, for whom the end is lost.
_LOOK = INTERVAL / 1000
_TELL = 10.0
#: Seconds between two looks at who holds it, near its limit; and the share of the limit by which it has grown since
#: that was told last when it is told at once: for whom the next look never comes.
_CLOSER = 1.0
_GROWN = 0.05


class Attempt:
    """An attempt from `assign` until nothing of it is left and its `finish` is answered."""

    def __init__(self, assignment: Message, link: Link, selector: selectors.BaseSelector) -> None:
        self.id: str = assignment["attempt"]
        self.assignment = assignment
        start = assignment.get("start")
        #: How the run is to begin: "auto", "fork" or "fresh".
        self.start: str = start if start in ("fork", "fresh") else "auto"
        #: Whether it is run in a process that is kept for the next such run.
        self.inline = assignment.get("isolation") == "inline"
        self.book = LogBook()
        self.pid: int | None = None
        #: Wait status and peak resident bytes of the run's process, once it has ended.
        self.status: int | None = None
        #: Whether it has not ended, but is done, and waits for the next run.
        self.kept = False
        self.peak = 0
        self.last_word: Message | None = None
        self.word_before_cancel = False
        self.cancel: Message | None = None
        #: When to kill what ignores SIGTERM, by the monotonic clock.
        self.kill_at: float | None = None
        self.launched = False
        #: When its memory is to be looked at next, by the monotonic clock: a run that is over before costs nothing.
        self.look_at: float | None = None
        self.curve: Curve | None = None
        #: The most bytes that were seen then.
        self.highest = 0
        #: Whether the process has said that nothing comes any more.
        self.ended = False
        #: Whether its output is complete: nothing is heard from here on.
        self.sealed = False
        #: Whether nothing of the run is left.
        self.concluded = False
        self.finish_sent = False
        self.finish_answered = False
        #: Whether `finish` was sent before it was concluded: `released` follows.
        self.owes_release = False
        self._link = link
        self._selector = selector
        #: What the selector waits for, by descriptor.
        self._events: dict[int, int] = {}
        self._socket: _socket.socket | None = None
        self._lines = wire.LineBuffer()
        self._out: deque[memoryview] = deque()
        self._out_bytes = 0
        self._pipes: dict[int, LineSplitter] = {}
        self._streams: dict[str, LineSplitter] = {}
        self._log_in_flight = False
        self._logs_sent_at = 0.0
        self._report: Message = {}
        self._report_in_flight = False
        self._launched_at = self._told_at = 0.0
        self._closer_at = 0.0
        self._told_near = 0.0

    # ------------------------------------------------------------ begin and end

    def open(self, ends: Ends) -> None:
        """The run's process is, or will be, at the other end."""
        self._socket = ends.socket
        for descriptor, stream, level in ((ends.stdout, "stdout", "info"), (ends.stderr, "stderr", "warning")):
            self._pipes[descriptor] = self._streams[stream] = LineSplitter(stream, level)
        self.launched = True
        self._launched_at = self._told_at = time.monotonic()
        self.look_at = self._launched_at + _LOOK

    def begin(self) -> None:
        """Tell the process what to run, and listen to it."""
        self._tell(self.assignment)
        self.watch()

    def drain(self) -> None:
        """Read what the ended process has left, and close."""
        while self._socket is not None and self._read_socket():
            pass
        for descriptor in list(self._pipes):
            while self._read_pipe(descriptor):
                pass
        self._seal()

    def take_what_is_there(self) -> None:
        """After `ended`: what the pipes hold now, and close. Whoever writes on is none of the run any more."""
        for descriptor in list(self._pipes):
            left = output.pending(descriptor)
            while left > 0 and (data := os.read(descriptor, min(left, _READ))):
                left -= len(data)
                self._pipes[descriptor].feed(data, self.book)
        self._seal()

    def _seal(self) -> None:
        if self.sealed:
            return
        self.sealed = True
        self.look_at = None
        for descriptor in list(self._pipes):
            self._close_pipe(descriptor)
        self._close_socket()
        for splitter in self._streams.values():
            splitter.close(self.book)
        self.book.close()

    @property
    def settled(self) -> bool:
        """Whether all that must go before `finish` has gone.

        A batch of lines may still be on its way: it is taken in before `finish`, because it was sent before it. A
        report must have been answered: it is refused once the attempt is finished.
        """
        return self.book.waiting <= BATCH and not self._report and not self._report_in_flight

    # ------------------------------------------------------------ the loop

    def watch(self) -> None:
        """Tell the selector what to wait for: nothing that could not be taken in now."""
        if self.sealed:
            return
        crowded = self._crowded
        stuffed = self.book.waiting > BACKLOG
        if self._socket is not None:
            reading = selectors.EVENT_READ if not crowded and not stuffed else 0
            events = reading | (selectors.EVENT_WRITE if self._out else 0)
            self._set(self._socket.fileno(), events, self._on_socket)
        for descriptor in self._pipes:
            self._set(descriptor, 0 if stuffed else selectors.EVENT_READ, self._on_pipe, descriptor)

    @property
    def _crowded(self) -> bool:
        """Whether the process has asked for so much that it is not heard until some of it is answered."""
        return (
            self._link.unanswered > _MOST_REQUESTS
            or self._link.unanswered_bytes > _MOST_BYTES
            or self._out_bytes > _MOST_BYTES
        )

    def looked(self, memory: int) -> None:
        """It has so many bytes now; 0: that is not told here, and need not be asked for again."""
        if not memory:
            self.look_at = None
            return
        now = time.monotonic()
        self.highest = max(self.highest, memory)
        self.curve = self.curve or Curve()
        self.curve.add(1000 * (now - self._launched_at), memory)
        # where it came late, the next one is in time again
        self.look_at = now + _LOOK - (now - self._launched_at) % _LOOK
        if now >= self._told_at + _TELL:
            self._told_at = now
            self._report["curve"] = self.curve.told()

    def looks_closer(self) -> bool:
        """Whether it is time to ask who holds the memory, now that it is near the limit."""
        return self.look_at is not None and time.monotonic() >= self._closer_at

    def saw(self, held: Message, limit: int = 0, *, killed: bool = False) -> None:
        """Who holds the memory (`memory`, `scratch`, `processes`). `killed`: when the kernel had ended somebody."""
        now = time.monotonic()
        self._closer_at = now + _CLOSER
        self.curve = curve = self.curve or Curve()
        if killed and curve.near is not None:
            # those that are left say less than what was seen before, but for what no process holds
            curve.near |= {"killed": True, "scratch": max(curve.near["scratch"], held["scratch"])}
            return
        curve.near = {"at_ms": round(1000 * (now - self._launched_at)), **held, "killed": killed}
        if held["memory"] >= self._told_near + _GROWN * limit > 0:
            self._told_near = held["memory"]
            self._report["curve"] = curve.told()

    def died_of(self, memory: int) -> None:
        """The kernel has ended some of it at so many bytes: too fast for a look, maybe."""
        self.curve = self.curve or Curve()
        self.curve.add(1000 * (time.monotonic() - self._launched_at), memory)

    def deadline(self) -> float | None:
        """When `tick` has something to do, by the monotonic clock."""
        times = [due for splitter in self._streams.values() if (due := splitter.due) is not None]
        if self.sealed or self.book.full:
            times = []
        if self.book.waiting and not self._log_in_flight:
            times.append(self._logs_sent_at + FLUSH_DELAY)
        return min(times, default=None)

    def tick(self) -> None:
        """Send lines and reports that are due. Lines go at once after a quiet time, else in batches."""
        if not self.sealed:
            now = time.monotonic()
            for splitter in self._streams.values():
                splitter.show(self.book, now)
        due = self.book.waiting >= BATCH or time.monotonic() >= self._logs_sent_at + FLUSH_DELAY
        if self.sealed and not self.finish_sent:
            due = self.book.waiting > BATCH  # what is less goes inside `finish`
        if self.book.waiting and due and not self._log_in_flight and not self.finish_sent:
            self._log_in_flight = True
            self._logs_sent_at = time.monotonic()
            message = {
                "type": wire.LOG,
                "attempt": self.id,
                "dropped": self.book.dropped,
                "lines": self.book.take(),
            }
            self._link.request(message, self._logs_stored)
        if self._report and not self._report_in_flight and not self.finish_sent:
            self._report_in_flight = True
            report = {"progress": None, "metadata": None, **self._report}
            self._report = {}
            message = {"type": wire.REPORT, "attempt": self.id, **report}
            self._link.request(message, lambda reply: self._report_stored(reply, report))
        self.watch()

    def _logs_stored(self, reply: Message) -> None:
        self._log_in_flight = False

    def _report_stored(self, reply: Message, report: Message) -> None:
        self._report_in_flight = False
        error = reply.get("error")
        keys = sorted(report["metadata"] or {})
        said = keys or report["progress"] is not None
        if said and not reply.get("ok") and isinstance(error, dict) and error.get("code") != "stale_attempt":
            # the task did not wait for it, so its log is where it is told
            what = f"metadata {', '.join(keys)}"[:200] if keys else "progress"
            self.book.add("samovar", "warning", f"{what} not kept: {error.get('message')}")

    def _set(self, descriptor: int, events: int, handler: Any, *arguments: Any) -> None:
        current = self._events.get(descriptor, 0)
        if events == current:
            return
        self._events[descriptor] = events
        data = (lambda mask: handler(mask, *arguments)) if arguments else handler
        if not events:
            self._selector.unregister(descriptor)
        elif current:
            self._selector.modify(descriptor, events, data)
        else:
            self._selector.register(descriptor, events, data)

    # ------------------------------------------------------------ output

    def _on_pipe(self, mask: int, descriptor: int) -> None:
        self._read_pipe(descriptor)

    def _read_pipe(self, descriptor: int) -> bool:
        held = output.pending(descriptor)
        # what Python had said before these bytes came is on the socket by now; what it says after, it says when
        # they are read
        for _ in range(4):
            if self._crowded or not self._read_socket():
                break
        try:
            data = os.read(descriptor, min(held, _READ) or 1)
        except BlockingIOError:
            return False
        if not data:
            self._close_pipe(descriptor)
            return False
        self._pipes[descriptor].feed(data, self.book)
        return True

    def _close_pipe(self, descriptor: int) -> None:
        del self._pipes[descriptor]
        self._set(descriptor, 0, None)
        os.close(descriptor)

    def _hear_output(self, message: Message) -> None:
        splitter, data = self._streams.get(str(message.get("stream"))), message.get("data")
        if splitter is None or not isinstance(data, str):
            return
        try:
            splitter.feed(data.encode("latin-1"), self.book)
        except UnicodeEncodeError:
            return

    # ------------------------------------------------------------ the run's socket

    def _on_socket(self, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._flush()
        if mask & selectors.EVENT_READ:
            self._read_socket()

    def _read_socket(self) -> bool:
        if self._socket is None:
            return False
        try:
            data = self._socket.recv(_READ)
            messages = self._lines.feed(data)
        except BlockingIOError:
            return False
        except (OSError, wire.ProtocolError):
            data = b""
        if not data:
            # a process that breaks the protocol is not heard any more; its exit decides what became of it
            self._close_socket()
            return False
        for message in messages:
            self._hear(message)
        return True

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._set(self._socket.fileno(), 0, None)
            self._socket.close()
            self._socket = None
            self._out.clear()
            self._out_bytes = 0

    def _tell(self, message: Message) -> None:
        if self._socket is None:
            return
        self._put(memoryview(wire.encode(message)))

    def _put(self, *parts: memoryview) -> None:
        if self._socket is None:
            return
        idle = not self._out
        self._out.extend(parts)
        self._out_bytes += sum(map(len, parts))
        if idle:
            self._flush()

    def _flush(self) -> None:
        try:
            while self._out and self._socket is not None:
                sent = self._socket.send(self._out[0])
                self._out_bytes -= sent
                if sent == len(self._out[0]):
                    self._out.popleft()
                else:
                    self._out[0] = self._out[0][sent:]
        except BlockingIOError:
            pass
        except OSError:  # the process is gone; what it said before is still to be read
            self._out.clear()
            self._out_bytes = 0

    # ------------------------------------------------------------ what the process says

    def _hear(self, message: Message) -> None:
        kind = message.get("type")
        if self.ended:
            return
        if kind == wire.OUTPUT:
            self._hear_output(message)
        elif kind == wire.LOG:
            self._hear_log(message)
        elif kind == wire.REPORT:
            self._hear_report(message)
        elif kind in (wire.RESULT, wire.ERROR, wire.SUSPEND):
            self._hear_last(message)
        elif kind == wire.ENDED:
            self._hear_ended(message)
        elif kind in (wire.CHECKPOINT_GET, wire.CHECKPOINT_PUT, wire.EXTEND, wire.WAIT, wire.WAIT_RESULT):
            self._forward(message)
        else:
            self._tell(wire.refusal(message, "unknown_type", f"there is no request {kind!r}"))

    def _hear_last(self, message: Message) -> None:
        if self.last_word is not None:
            return
        problem = check_value(message.get("value")) if message.get("type") == wire.RESULT else None
        if problem:
            error = wire.error_body("NotSerializable", f"result: {problem}")
            message = {"type": wire.ERROR, "error": error, "retry": {"allowed": False, "after": None}}
        self.last_word = message
        if self.kill_at is None:
            self.kill_at = time.monotonic() + ENDING
        self.word_before_cancel = self.cancel is None and message.get("type") in (wire.ERROR, wire.SUSPEND)

    def _hear_ended(self, message: Message) -> None:
        if self.last_word is None or self.cancel is not None:
            return  # its exit has to tell
        self.ended = True
        self.kill_at = time.monotonic() + _EXIT
        peak = message.get("peak")
        if isinstance(peak, int) and 0 <= peak < 1 << 62:  # a figure of its own record, and no more
            self.peak = peak

    def _hear_log(self, message: Message) -> None:
        lines = message.get("lines")
        for line in lines if isinstance(lines, list) else []:
            if not isinstance(line, dict) or not isinstance(line.get("message"), str):
                continue
            level, logger, at = line.get("level"), line.get("logger"), line.get("at")
            self.book.add(
                "logging",
                level if level in LEVELS else "info",
                line["message"],
                logger[:256] if isinstance(logger, str) else None,
                float(at) if isinstance(at, (int, float)) and 0 < at < 1e11 else None,
            )

    def _hear_report(self, message: Message) -> None:
        progress, metadata = message.get("progress"), message.get("metadata")
        if isinstance(progress, dict) and check_value(progress, 4096) is None:
            self._report["progress"] = progress
        if isinstance(metadata, dict) and check_value(metadata, 64 * 1024) is None:
            merged = {**self._report.get("metadata", {}), **metadata}
            if check_value(merged, 256 * 1024) is None:
                self._report["metadata"] = merged

    def _forward(self, message: Message) -> None:
        kind = message["type"]
        forwarded: Message = {"type": kind, "attempt": self.id}
        problem: str | None = None
        if kind == wire.EXTEND:
            seconds = message.get("seconds")
            number = seconds if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) else 0
            forwarded["seconds"] = number
            if not 0 < number <= _LONGEST_EXTENSION or not math.isfinite(number):
                problem = f"seconds={seconds!r}: give more than 0 and at most 30 days"
        else:
            key = message.get("key")
            forwarded["key"] = key
            if not isinstance(key, str) or not 1 <= len(key) <= wire.MAX_KEY:
                problem = f"key: text of 1 to {wire.MAX_KEY} characters is wanted"
            elif kind == wire.CHECKPOINT_PUT:
                forwarded["took_ms"] = _milliseconds(message.get("took_ms"))
                forwarded["value"] = message.get("value")  # last: it may be long
                problem = check_value(forwarded["value"])
            elif kind == wire.WAIT:
                forwarded |= {part: message.get(part) for part in ("kind", "name", "spec")}
                problem = check_value(forwarded["spec"])
            elif kind == wire.WAIT_RESULT:
                forwarded["index"] = message.get("index")
        if problem is None:
            own = message.get("id")
            try:
                self._link.request(
                    forwarded,
                    lambda reply: self._tell({**reply, "reply": own}),
                    lambda rest: self._put(memoryview(f'{{"reply":{json.dumps(own)}'.encode()), rest, _END),
                )
                return
            except wire.ProtocolError as error:
                problem = str(error)
        self._tell(wire.refusal(message, "bad_request", problem))


def _milliseconds(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number and 0 <= value < _LONGEST_STEP else None


def check_value(value: Any, most: int = wire.MAX_VALUE) -> str | None:
    """What is wrong with a JSON value, if anything: not finite, nested too deep, too large."""
    if value is None or type(value) in (bool, int) or (type(value) is float and math.isfinite(value)):
        return None
    try:
        size = len(wire.encode({"": value})) - 6
    except (ValueError, RecursionError, wire.ProtocolError) as error:
        return str(error)
    if size > most:
        return f"{size:,} bytes encoded are more than {most:,}"
    return f"nested more than {wire.MAX_DEPTH} deep, encoded" if _is_deep(value) else None


def _is_deep(value: Any) -> bool:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(wire.MAX_DEPTH):
        inner = (item for outer in level for item in (outer.values() if isinstance(outer, dict) else outer))
        level = [item for item in inner if isinstance(item, (dict, list))]
        if not level:
            return False
    return True
