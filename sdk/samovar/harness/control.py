"""The zygote's side of what it has in common with process 1: a socket for orders, a pipe for process ids.

Which process a run is, process 1 wants to know only where it has to end it: it reads the pipe then, and is not
woken by it in every run.
"""

from __future__ import annotations

import array
import json
import os
import socket
from typing import Any

#: For the descriptors of one run.
_ROOM = socket.CMSG_SPACE(3 * array.array("i").itemsize)


class Control:
    """Ends this process where process 1 is gone."""

    def __init__(self, orders: socket.socket, pids: int) -> None:
        self._orders = orders
        self._pids = pids

    @classmethod
    def inherited(cls, descriptors: list[int]) -> Control:
        """In a program that was given these."""
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        return cls(socket.socket(fileno=descriptors[0]), descriptors[1])

    def descriptors(self) -> list[int]:
        return [self._orders.fileno(), self._pids]

    def close(self) -> None:
        """In the process of a run, which has no part in it."""
        self._orders.close()
        os.close(self._pids)

    def order(self) -> tuple[str, list[int]] | None:
        """How the next run is to begin ("auto", "fork", "fresh"; "inline auto", "inline fork": in the process
        that is kept for such), and its descriptors; None where there will be none.
        """
        data, carried, _, _ = self._orders.recvmsg(64, _ROOM, socket.MSG_CMSG_CLOEXEC)
        if not data:
            return None
        return data.decode(), array.array("i", b"".join(piece for _, _, piece in carried)).tolist()

    def began(self, pid: int) -> None:
        """The process of a run is there."""
        try:
            os.write(self._pids, b"%d\n" % pid)
        except OSError:
            os._exit(0)

    def exited(self, status: int, peak: int) -> None:
        """It is gone: its wait status, and the most memory it had, in bytes."""
        self._send(b'{"exited":%d,"peak":%d}' % (status, peak))

    def kept(self, peak: int) -> None:
        """The run is over, and its process goes on with the next one that it is given."""
        self._send(b'{"kept":%d}' % peak)

    def say(self, message: dict[str, Any]) -> None:
        self._send(json.dumps(message).encode())

    def _send(self, line: bytes) -> None:
        try:
            self._orders.send(line)
        except OSError:
            os._exit(0)
