"""The zygote's side of the process that `isolation="inline"` keeps from run to run (see kept.py)."""

from __future__ import annotations

import array
import os
import signal
import socket
from contextlib import suppress
from typing import Callable

#: For the descriptors of one run, and for what is said with them: the notice for its log.
ROOM = socket.CMSG_SPACE(3 * array.array("i").itemsize)
LONGEST = 16 * 1024


class Kept:
    """One such process: it is given a run at a time."""

    def __init__(self, start: Callable[[socket.socket, socket.socket], int]) -> None:
        """`start` is given the process's end of a channel, and this one's; it returns its process id."""
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.pid = start(theirs, self._channel)

    def lives(self) -> bool:
        """Whether it has not died since its last run."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def run(self, descriptors: list[int], notice: str | None) -> None:
        """Give it a run."""
        with suppress(OSError):  # dead: `peak` says so
            socket.send_fds(self._channel, [f"+{notice or ''}".encode()[:LONGEST]], descriptors)

    def peak(self) -> int | None:
        """When the run is over: the most memory that the process has had, in bytes; None where it is dead."""
        said = b""
        with suppress(OSError):
            said = self._channel.recv(64)
        return int(said) if said.isdigit() else None

    def bury(self) -> tuple[int, int]:
        """Ends it, where it is not dead yet: its wait status, and the most memory that it had, in bytes."""
        self._channel.close()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        _, status, usage = os.wait4(self.pid, 0)
        return status, usage.ru_maxrss * 1024
