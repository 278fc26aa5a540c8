"""Places on loopback that a run's clients connect to, held by process 1 and lent to the relay."""

from __future__ import annotations

import socket
from contextlib import suppress

#: Connections that may wait for the relay to take them.
BACKLOG = 512
#: Linger for no time: a close is a reset then, which no client takes for an end.
RESET = b"\x01\x00\x00\x00\x00\x00\x00\x00"


class Listener:
    """A place that clients connect to: the proxy, or (with `name`) one port of a host."""

    def __init__(self, address: str, port: int, name: str | None = None) -> None:
        self.name = name
        self.port = port
        self.socket = socket.socket()
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind((address, port))
            self.socket.listen(BACKLOG)
            self.socket.setblocking(False)
        except OSError:
            self.socket.close()
            raise


def reset(connection: socket.socket) -> None:
    """Close at once, so that the other side sees an error and no end."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()
