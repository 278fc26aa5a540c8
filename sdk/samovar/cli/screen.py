"""A terminal that shows one frame after another: its second screen, keys as they are typed, all put back then.

Only what every terminal knows: the sequences of a VT100 for the place and the end of a line, and xterm's for the
second screen. Programs that end by a signal (Ctrl-C, `kill`, a closed window) leave it as they found it.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

from samovar.cli.top_frame import Line

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_STYLES = {"bold": "\x1b[1m", "dim": "\x1b[2m", "red": "\x1b[31m", "yellow": "\x1b[33m"}
_PLAIN = "\x1b[0m"
#: Ends that a program can see coming.
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Screen:
    """Taken by `taken()`. Of the main thread, as signals are."""

    def __init__(self) -> None:
        # what wakes `wait`: another thread with something to show, and the window with another size. It stays open,
        # since that thread may be about to
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._keys = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._before: list[Any] = []
        #: What ends the program, once it is told to.
        self._end: BaseException | None = None

    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        found = shutil.get_terminal_size()
        with contextlib.suppress(OSError):
            # the environment may say what was true of another window
            found = os.get_terminal_size(sys.stdout.fileno())
        return max(found.columns, 1), max(found.lines, 1)

    def draw(self, lines: Sequence[Line]) -> None:
        """Puts `lines` in the place of what is there, in one go: nothing flickers."""
        # each line is emptied first: after a text that fills it, that would take the text's last letter
        shown = [f"\x1b[2K{_STYLES.get(style, '')}{text}{_PLAIN if style else ''}" for text, style in lines]
        self._write("\x1b[H" + "\r\n".join(shown) + "\x1b[J")

    def wait(self, seconds: float) -> str:
        """What was typed within `seconds`; "" as soon as `wake` is called, and when they are over."""
        watched = [self._woken] if self._keys is None else [self._woken, self._keys]
        ready, _, _ = select.select(watched, [], [], max(seconds, 0.0))
        if self._woken in ready:
            os.read(self._woken, 4096)
        if self._end is not None:
            raise self._end
        if self._keys is not None and self._keys in ready:
            typed = os.read(self._keys, 1024)
            if not typed:  # the window is gone
                self._keys = None
            return typed.decode("utf-8", "replace")
        return ""

    def wake(self) -> None:
        """From any thread, and from a signal's handler."""
        with contextlib.suppress(OSError):
            os.write(self._wake, b"x")

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """The terminal is this program's until the block ends, however that is."""
        handlers = {
            signal.SIGWINCH: lambda number, frame: self.wake(),
            signal.SIGTSTP: self._stopped,
            **dict.fromkeys(_ENDING, self._ended),
        }
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            self._enter()
            yield
        finally:
            self._leave()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _enter(self) -> None:
        if self._keys is not None:
            self._before = termios.tcgetattr(self._keys)
            # keys come as they are typed, Ctrl-C stays a signal
            tty.setcbreak(self._keys)
        self._write(_ENTER)

    def _leave(self) -> None:
        # a window that is gone needs nothing put back
        with contextlib.suppress(OSError, termios.error):
            self._write(_LEAVE)
            if self._keys is not None and self._before:
                termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)

    def _ended(self, number: int, frame: FrameType | None) -> None:
        self._end = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
        # what is raised while an object goes away is lost: then `wait` raises it
        self.wake()
        raise self._end

    def _stopped(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: the shell gets its terminal back meanwhile."""
        self._leave()
        ours = signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        # here it goes on, after `fg`
        signal.signal(number, ours)
        self._enter()
        self.wake()

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        while data:
            data = data[os.write(sys.stdout.fileno(), data) :]
