"""A terminal for commands that draw on it, and what a person would see there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.waiting import eventually


@dataclass
class Terminal:
    """What the command has written, as a terminal shows it that knows what it uses of a VT100, and no more."""

    descriptor: int
    process: subprocess.Popen[bytes]
    written: bytes = b""
    #: The first screen and the second, and which is seen.
    screens: dict[bool, list[str]] = field(default_factory=lambda: {False: [""] * 60, True: [""] * 60})
    second: bool = False
    cursor: bool = True
    row: int = 0
    frames: list[float] = field(default_factory=list)

    def read(self, seconds: float = 0.05) -> None:
        while select.select([self.descriptor], [], [], seconds)[0]:
            try:
                data = os.read(self.descriptor, 65536)
            except OSError:  # EIO: nobody has it open any more
                return
            self.written += data
            self._take(data.decode())

    def text(self) -> str:
        self.read()
        return "\n".join(self.screens[self.second]).rstrip()

    def until(self, text: str) -> None:
        eventually(lambda: text in self.text(), f"{text!r} on the screen: {self.text()}")

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self.descriptor, keys.encode())

    def _take(self, text: str) -> None:
        for part in re.split(r"(\x1b\[[?0-9;]*[A-Za-z]|\r\n|\n)", text):
            screen = self.screens[self.second]
            if part in ("\x1b[?1049h", "\x1b[?1049l"):
                self.second, self.row = part.endswith("h"), 0
            elif part in ("\x1b[?25h", "\x1b[?25l"):
                self.cursor = part.endswith("h")
            elif part == "\x1b[H":
                self.row = 0
                self.frames.append(time.monotonic())
            elif part == "\x1b[2K":
                screen[self.row] = ""
            elif part == "\x1b[J":
                screen[self.row + 1 :] = [""] * (len(screen) - self.row - 1)
            elif part in ("\r\n", "\n"):
                self.row += 1
            elif not re.fullmatch(r"\x1b\[[0-9]*m", part):
                assert "\x1b" not in part, part
                screen[self.row] += part


#: The terminal is the command's own, as a window's is: its keys and its size come as signals.
_START = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from samovar.cli.main import main; main()"


@contextmanager
def terminal(data: Path, *arguments: str, columns: int = 80, rows: int = 24) -> Iterator[Terminal]:
    """`samovar ARGUMENTS...` on a terminal of its own, which has to be as it was when the command has ended."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", _START, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**environment, "SAMOVAR_DATA": str(data), "TERM": "xterm"},
        start_new_session=True,
    )
    before = termios.tcgetattr(theirs)
    made = Terminal(ours, process)
    try:
        yield made

        def over() -> bool:
            made.read()  # who writes to a terminal that nobody reads stops
            return process.poll() is not None

        eventually(over, "the command to end")
        made.read()
        # as it was found: the first screen, the cursor, and keys by line
        assert not made.second
        assert made.cursor
        assert termios.tcgetattr(theirs) == before
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(30)
        os.close(ours)
        os.close(theirs)
