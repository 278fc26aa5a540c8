"""Stdout and stderr of a run's process: one order for what Python writes, whichever way it takes.

`print`, stderr and logging go to process 1 over the run's socket, in the order they are written; two pipes have
none. What C code and subprocesses write to the descriptors goes through pipes. Before Python writes, it waits a
moment until process 1 has taken what the pipes hold, and process 1 reads the socket before what had come through a
pipe: so the output of `subprocess.run` stands between the lines that were printed before and after it.

Wherever the descriptor is no longer the pipe it was (a program has put a file there to catch output), or this is a
fork of the run's process, Python writes to the descriptor like everybody else.
"""

from __future__ import annotations

import array
import fcntl
import io
import os
import sys
import time

from samovar import wire

TYPE_CHECKING = False  # of `typing`, which process 1 would import for nothing else
if TYPE_CHECKING:
    from typing import Any

    from samovar.harness.store import WireStore

_LARGEST = 64 * 1024
#: Of `termios`, a library that nothing else here needs.
_FIONREAD = 0x541B
#: Seconds that a write waits for what pipes hold: under a flood of a subprocess's output, order is not all.
_PATIENCE = 0.02
#: The same where they hold at most _LITTLE bytes, and nobody reads them.
_LONGEST, _LITTLE = 1.0, 16 * 1024
#: Writes without a newline that go out at once in each _WINDOW seconds; of a burst, the rest go with the next.
_PROMPT = 50
_WINDOW = 0.1

_store: WireStore | None = None
_pipes: dict[int, tuple[int, int]] = {}


def attach(store: WireStore) -> None:
    """From now on this process is a run's: descriptors 1 and 2 are its pipes."""
    global _store
    _store = store
    for descriptor in (1, 2):
        _pipes[descriptor] = _identity(descriptor)


def detach() -> None:
    """This process is no run's any more, for now: what is written to the descriptors goes where they lead."""
    global _store
    _store = None


def text(descriptor: int, stream: str) -> io.TextIOWrapper:
    """`sys.stdout` or `sys.stderr`: UTF-8 whatever the locale, a line at a time, so that a crash loses none."""
    raw = io.BufferedWriter(_Raw(descriptor, stream))
    return _Text(raw, "utf-8", "backslashreplace", line_buffering=True)


def install() -> None:
    """Makes `sys.stdin`, `sys.stdout` and `sys.stderr` of this process, whose modules may keep them."""
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), "utf-8")
    sys.stdout, sys.stderr = text(1, "stdout"), text(2, "stderr")
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]


def is_ours(stream: Any) -> bool:
    """Whether what is written to `stream` becomes lines of the run by the run's socket."""
    return isinstance(stream, _Text) and not stream.closed and _is_attached(stream.fileno())


def settle() -> None:
    """Wait until process 1 has read what the pipes hold, or a moment is over.

    Where they hold little, and none of it is taken, process 1 waits for a processor: that may take longer.
    """
    deadline, before = 0.0, 0
    while held := sum(_pending(descriptor) for descriptor in _pipes if _is_attached(descriptor)):
        now = time.monotonic()
        if not deadline:
            deadline = now + (_LONGEST if held <= _LITTLE else _PATIENCE)
        elif held < before:
            deadline = min(deadline, now + _PATIENCE)
        if now >= deadline:
            return
        before = held
        time.sleep(0.0002)


def pending(descriptor: int) -> int:
    """Bytes that a pipe holds."""
    return _pending(descriptor)


class _Text(io.TextIOWrapper):
    """Text that goes out at the end of a line, and without one soon: a prompt, the dots of a progress."""

    _window = 0.0
    _left = 0

    def write(self, text: str) -> int:
        count = super().write(text)
        if text and "\n" not in text:
            now = time.monotonic()
            if now - self._window > _WINDOW:
                self._window, self._left = now, _PROMPT
            if self._left > 0:
                self._left -= 1
                self.flush()
        return count


class _Raw(io.RawIOBase):
    """A descriptor that other programs write to; what Python writes takes the run's socket where there is one."""

    def __init__(self, descriptor: int, stream: str) -> None:
        super().__init__()
        self._descriptor, self._stream = descriptor, stream

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return False

    def write(self, data: Any) -> int:
        store = _store
        if store is None or not _is_attached(self._descriptor):
            return os.write(self._descriptor, data)
        piece = bytes(data[:_LARGEST])
        settle()
        store.send({"type": wire.OUTPUT, "stream": self._stream, "data": piece.decode("latin-1")})
        return len(piece)


def _is_attached(descriptor: int) -> bool:
    if _store is None or not _store.owned:
        return False
    try:
        return _identity(descriptor) == _pipes[descriptor]
    except OSError:  # closed
        return False


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _pending(descriptor: int) -> int:
    count = array.array("i", [0])
    try:
        fcntl.ioctl(descriptor, _FIONREAD, count)
    except OSError:
        return 0
    return count[0]
