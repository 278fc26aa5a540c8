"""A run's output as lines: split, decoded, cut and counted in process 1, so that no output can hurt it.

Of an attempt's lines the first HEAD bytes go out as they come. What comes after is kept as bytes, the newest TAIL
of them, and becomes lines when the run has ended: the last lines are the ones that say what went wrong. A line
between the two says how much was left out.

A line that has not ended goes out too, as `partial`, and what it becomes replaces it: a prompt is seen while it is
waited at, and of a progress bar that goes back with `\\r` the state it has now, in the end the last.
"""

from __future__ import annotations

import time
from collections import deque
from json.encoder import encode_basestring

from samovar.wire import MAX_LOG_BYTES, MAX_LOG_ENCODED, MAX_LOG_MESSAGE, Message

TYPE_CHECKING = False  # of `typing`, which process 1 would import for nothing else
if TYPE_CHECKING:
    from typing import Any

#: Sent as soon as this many bytes wait, or after FLUSH_DELAY seconds.
BATCH = 64 * 1024
LARGEST_BATCH = 256 * 1024
FLUSH_DELAY = 0.05
#: Seconds after which a line that has not ended is shown, and then again what it has become.
PARTIAL_DELAY = 0.4
#: Above this many unsent bytes the run's output is not read: a print then waits.
BACKLOG = 1024 * 1024
#: What a line costs besides its text, so that empty lines are bounded too.
LINE_COST = 64
#: Bytes of lines that are kept of the end of an attempt, and of its beginning.
TAIL = 512 * 1024
HEAD = MAX_LOG_BYTES - TAIL
#: The same as the sidecar counts: there has to be room for the end, whatever its lines are made of.
HEAD_ENCODED = MAX_LOG_ENCODED - 2 * TAIL

LEVELS = frozenset({"debug", "info", "warning", "error", "critical"})


class LogBook:
    """The lines of one attempt: numbered, bounded by MAX_LOG_BYTES in all, taken out in batches."""

    def __init__(self) -> None:
        self._lines: deque[tuple[Message, int]] = deque()
        self._seq = 0
        self._total = 0
        self._encoded = 0
        #: What came after the head: a stream's bytes, or a record, each with its cost and time.
        self._tail: deque[tuple[LineSplitter | Message, bytes, int, float]] = deque()
        self._tail_bytes = 0
        #: Bytes of lines that wait to be sent.
        self.waiting = 0
        #: Bytes of output that were not kept, and the lines they were.
        self.dropped = 0
        self.dropped_lines = 0

    @property
    def full(self) -> bool:
        """Whether further output is kept for the end, if at all."""
        return self._total >= HEAD or self._encoded >= HEAD_ENCODED

    def add(
        self,
        stream: str,
        level: str,
        message: str,
        logger: str | None = None,
        at: float | None = None,
        *,
        partial: bool = False,
        replaces: int | None = None,
    ) -> int:
        """Keep a line; its number, 0 where it waits for the end. `replaces`: the number of what it was before."""
        message = cut(message)
        size = len(message.encode("utf-8", "replace"))
        at = time.time() if at is None else at
        if self.full and not replaces:
            line = {"stream": stream, "level": level, "message": message, "logger": logger}
            self._keep(line, b"", size + LINE_COST, at)
            return 0
        line = self._line(stream, level, message, logger, at, partial, replaces)
        # a state that goes away again costs nothing in the end
        cost = LINE_COST + size
        self._append(line, cost, counted=not partial)
        return self._seq

    def keep(self, splitter: LineSplitter, data: bytes) -> None:
        """Keep a stream's bytes for the end."""
        for start in range(0, len(data), BATCH):
            piece = data[start : start + BATCH]
            self._keep(splitter, piece, len(piece) + LINE_COST * max(1, piece.count(b"\n")), time.time())

    def close(self) -> None:
        """What was kept for the end as lines, after one that says what was left out, if anything was."""
        kept = self._lines_of_tail()
        if self.dropped:
            text = (
                f"{self.dropped_lines} lines ({self.dropped} bytes) of output were dropped here: the first "
                f"{HEAD // 1024} KiB and the last {TAIL // 1024} KiB of an attempt's lines are kept"
            )
            self._append(self._line("samovar", "warning", text, None, time.time()), LINE_COST + len(text))
        for line, cost in kept:
            self._seq += 1
            self._append({**line, "seq": self._seq}, cost)

    def take(self, most: int = LARGEST_BATCH) -> list[Message]:
        """The next lines, up to `most` bytes (always one, if there is one)."""
        taken: list[Message] = []
        size = 0
        while self._lines and (not taken or size + self._lines[0][1] <= most):
            line, cost = self._lines.popleft()
            taken.append(line)
            size += cost
        self.waiting -= size
        return taken

    def _line(
        self,
        stream: str,
        level: str,
        message: str,
        logger: str | None,
        at: float,
        partial: bool = False,
        replaces: int | None = None,
    ) -> Message:
        self._seq += 1
        line: dict[str, Any] = {
            "seq": self._seq,
            "at": at,
            "level": level,
            "stream": stream,
            "logger": logger,
            "message": message,
        }
        if partial:
            line["partial"] = True
        if replaces:
            line["replaces"] = replaces
        return line

    def _append(self, line: Message, cost: int, *, counted: bool = True) -> None:
        self._lines.append((line, cost))
        if counted:
            self._total += cost
            self._encoded += encoded_size(line)
        self.waiting += cost

    def _keep(self, what: LineSplitter | Message, data: bytes, cost: int, at: float) -> None:
        self._tail.append((what, data, cost, at))
        self._tail_bytes += cost
        while self._tail_bytes - self._tail[0][2] >= TAIL:
            gone, data, cost, _ = self._tail.popleft()
            self._tail_bytes -= cost
            if isinstance(gone, LineSplitter):
                self.dropped += len(data)
                self.dropped_lines += data.count(b"\n")
                gone.broken = not data.endswith(b"\n")
            else:
                self._drop(gone)

    def _drop(self, line: Message) -> None:
        self.dropped += len(line["message"].encode("utf-8", "replace"))
        self.dropped_lines += 1

    def _lines_of_tail(self) -> list[tuple[Message, int]]:
        """The kept bytes and records as lines, the newest TAIL of them, in the order they came in."""
        found: list[tuple[Message, int, int]] = []
        splitters: list[LineSplitter] = []
        for what, data, _, at in self._tail:
            if not isinstance(what, LineSplitter):
                size = len(what["message"].encode("utf-8", "replace"))
                found.append(({**what, "at": at}, size, size))
                continue
            if what not in splitters:
                splitters.append(what)
            if what.broken:
                # the beginning of this line is gone: so is the rest of it
                rest, newline, data = data.partition(b"\n")
                self.dropped += len(rest) + len(newline)
                self.dropped_lines += len(newline)
                what.broken = not newline
            for message, size in what.split(data):
                found.append((what.line(message, at), len(message.encode()), size))
        for splitter in splitters:
            left = splitter.rest()
            if left is not None:
                found.append((splitter.line(left[0], time.time()), len(left[0].encode()), left[1]))
        self._tail.clear()
        kept: list[tuple[Message, int]] = []
        room = TAIL
        for line, size, written in reversed(found):
            room -= size + LINE_COST
            if room >= 0:
                kept.append((line, size + LINE_COST))
            else:
                self.dropped += written
                self.dropped_lines += 1
        return kept[::-1]


class LineSplitter:
    """Bytes of one stream, as lines into a LogBook."""

    def __init__(self, stream: str, level: str) -> None:
        self._stream = stream
        self._level = level
        self._part = b""
        #: Bytes of the line that were cut off, and of its earlier states.
        self._excess = 0
        self._overwritten = 0
        #: Whether the last byte was a `\r`: what comes next is written over the line.
        self._returned = False
        #: The number that the line has in the book so far, and since when it has more to show.
        self._shown: int | None = None
        self._changed_at: float | None = None
        #: Whether the bytes before those kept for the end broke off within a line.
        self.broken = False

    def feed(self, data: bytes, book: LogBook) -> None:
        """Add what `data` completes. Once the book's head is full, the bytes are kept for its end."""
        start = 0
        while not book.full:
            end = data.find(b"\n", start)
            if end < 0:
                self._take(data[start:])
                return
            self._take(data[start:end])
            self._emit(book)
            start = end + 1
        if self._part or self._excess or self._shown:
            self._emit(book)  # its rest is a line of its own: the book is full, and this was its last
        book.keep(self, data[start:])

    def show(self, book: LogBook, now: float) -> None:
        """Add the line as it is, if it has stood for PARTIAL_DELAY; `now` by the monotonic clock."""
        due = self.due
        if due is None or now < due or book.full:
            return
        self._changed_at = None
        message = _text(_whole(self._part), self._excess)
        self._shown = book.add(self._stream, self._level, message, partial=True, replaces=self._shown)

    @property
    def due(self) -> float | None:
        """When `show` has something to do, by the monotonic clock."""
        return None if self._changed_at is None else self._changed_at + PARTIAL_DELAY

    def close(self, book: LogBook) -> None:
        """Add the last line if it has no newline."""
        if self._shown or ((self._part or self._excess) and not book.full):
            self._emit(book)

    def line(self, message: str, at: float) -> Message:
        """A line of this stream, not yet numbered."""
        return {"at": at, "level": self._level, "stream": self._stream, "logger": None, "message": message}

    def split(self, data: bytes) -> list[tuple[str, int]]:
        """The lines that `data` completes, each with the bytes that were written for it."""
        *ended, rest = data.split(b"\n")
        lines = []
        for part in ended:
            self._take(part)
            lines.append(self._finish(1))
        self._take(rest)
        return lines

    def rest(self) -> tuple[str, int] | None:
        """What is left without a newline."""
        return self._finish(0) if self._part or self._excess else None

    def _take(self, data: bytes) -> None:
        if not data:
            return
        ends = len(data) - len(data.rstrip(b"\r"))
        text = data[: len(data) - ends]
        written = text.rfind(b"\r") + 1
        if text and (written or self._returned):
            # a line that goes back is written over; a terminal shows what stands there last
            self._overwritten += len(self._part) + self._excess + written
            self._part, self._excess = b"", 0
            text = text[written:]
        self._overwritten += ends
        if text or ends:
            self._returned = ends > 0 or (self._returned and not text)
        space = MAX_LOG_MESSAGE - len(self._part)
        self._part += text[:space]
        self._excess += max(0, len(text) - space)
        if text and self._changed_at is None:
            self._changed_at = time.monotonic()

    def _finish(self, newline: int) -> tuple[str, int]:
        written = len(self._part) + self._excess + self._overwritten + newline
        message = _text(self._part, self._excess)
        self._part, self._excess, self._overwritten = b"", 0, 0
        self._returned, self._changed_at = False, None
        return message, written

    def _emit(self, book: LogBook) -> None:
        message, _ = self._finish(1)
        shown, self._shown = self._shown, None
        book.add(self._stream, self._level, message, replaces=shown)


def encoded_size(line: Message) -> int:
    """About how many bytes a line has as JSON."""
    message = line["message"]
    escapes = len(encode_basestring(message)) - len(message)
    return 90 + len(message.encode("utf-8", "replace")) + escapes + len(line["logger"] or "")


def _text(data: bytes, excess: int) -> str:
    message = data.decode("utf-8", "replace")
    return cut(message, excess) if excess else message


def _whole(data: bytes) -> bytes:
    """`data` without a character at its end of which only some bytes have come."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte >= 0xC0:
            return data[:-back] if back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4) else data
        if byte < 0x80:
            break
    return data


def cut(message: str, more: int = 0) -> str:
    """`message` in at most MAX_LOG_MESSAGE bytes; `more` bytes of it are missing already. NUL is replaced."""
    message = message.replace("\0", "\ufffd")
    data = message.encode("utf-8", "replace")
    if len(data) <= MAX_LOG_MESSAGE and not more:
        return message
    # the note's length varies with the number in it; 48 bytes hold any
    kept = data[: MAX_LOG_MESSAGE - 48].decode("utf-8", "ignore")
    return f"{kept} … [{len(data) - len(kept.encode()) + more} more bytes were cut]"
