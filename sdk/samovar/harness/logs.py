"""A run's output as lines: split, decoded, cut and counted in process 1, so that no output can hurt it."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from samovar.wire import MAX_LOG_BYTES, MAX_LOG_MESSAGE, Message

#: Sent as soon as this many bytes wait, or after FLUSH_DELAY seconds.
BATCH = 64 * 1024
LARGEST_BATCH = 256 * 1024
FLUSH_DELAY = 0.05
#: Above this many unsent bytes the run's output is not read: a print then waits.
BACKLOG = 1024 * 1024
#: What a line costs besides its text, so that empty lines are bounded too.
LINE_COST = 64

LEVELS = frozenset({"debug", "info", "warning", "error", "critical"})


class LogBook:
    """The lines of one attempt: numbered, bounded by MAX_LOG_BYTES in all, taken out in batches."""

    def __init__(self) -> None:
        self._lines: deque[tuple[Message, int]] = deque()
        self._seq = 0
        self._total = 0
        #: Bytes of lines that wait to be sent.
        self.waiting = 0
        #: Bytes of output that were not kept.
        self.dropped = 0

    @property
    def full(self) -> bool:
        """Whether all further output is dropped."""
        return self._total >= MAX_LOG_BYTES

    def add(
        self, stream: str, level: str, message: str, logger: str | None = None, at: float | None = None
    ) -> None:
        """Keep a line, or count it as dropped."""
        message = cut(message)
        size = len(message.encode("utf-8", "replace"))
        if self.full:
            self.dropped += size
            return
        self._append(stream, level, message, logger, at, size)

    def close(self) -> None:
        """End with a line that says what was dropped, if anything was."""
        if self.dropped:
            text = f"{self.dropped} bytes of output were dropped: an attempt keeps {MAX_LOG_BYTES} bytes of logs"
            self._append("samovar", "warning", text, None, None, len(text))

    def _append(
        self, stream: str, level: str, message: str, logger: str | None, at: float | None, size: int
    ) -> None:
        self._seq += 1
        line: dict[str, Any] = {
            "seq": self._seq,
            "at": time.time() if at is None else at,
            "level": level,
            "stream": stream,
            "logger": logger,
            "message": message,
        }
        cost = size + LINE_COST
        self._lines.append((line, cost))
        self._total += cost
        self.waiting += cost

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


class LineSplitter:
    """Bytes of one stream, as lines into a LogBook."""

    def __init__(self, stream: str, level: str) -> None:
        self._stream = stream
        self._level = level
        self._part = b""
        self._excess = 0

    def feed(self, data: bytes, book: LogBook) -> None:
        """Add what `data` completes. Once the book is full, only counts."""
        if book.full:
            book.dropped += len(data) + len(self._part) + self._excess
            self._part, self._excess = b"", 0
            return
        lines = data.split(b"\n")
        for line in lines[:-1]:
            if book.full:
                book.dropped += len(line) + 1
                continue
            self._keep(line)
            self._emit(book)
        self._keep(lines[-1])

    def close(self, book: LogBook) -> None:
        """Add the last line if it has no newline."""
        if self._part or self._excess:
            self._emit(book)

    def _keep(self, data: bytes) -> None:
        space = MAX_LOG_MESSAGE - len(self._part)
        self._part += data[:space]
        self._excess += max(0, len(data) - space)

    def _emit(self, book: LogBook) -> None:
        data = self._part[:-1] if self._part.endswith(b"\r") and not self._excess else self._part
        message = data.decode("utf-8", "replace")
        if self._excess:
            message = cut(message, self._excess)
        self._part, self._excess = b"", 0
        book.add(self._stream, self._level, message)


def cut(message: str, more: int = 0) -> str:
    """`message` in at most MAX_LOG_MESSAGE bytes; `more` bytes of it are missing already. NUL is replaced."""
    message = message.replace("\0", "\ufffd")
    data = message.encode("utf-8", "replace")
    if len(data) <= MAX_LOG_MESSAGE and not more:
        return message
    # the note's length varies with the number in it; 48 bytes hold any
    kept = data[: MAX_LOG_MESSAGE - 48].decode("utf-8", "ignore")
    return f"{kept} … [{len(data) - len(kept.encode()) + more} more bytes were cut]"
