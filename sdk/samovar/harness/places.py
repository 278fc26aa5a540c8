"""Places on loopback at which the sidecar listens itself, inside the container, so that nothing here relays.

The sidecar cannot make a socket of this container's network. So process 1 hands over one that listens, connected to
once for each place: what the sidecar accepts from it is of this network and the sidecar's alone, and it listens
there. A sandbox has no such sockets to give, and older sidecars do not take them: then process 1 listens, and a
relay carries.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress

#: Seconds for the sidecar's answers: it listens; nobody waits in line any more.
_PATIENCE = 2.0
_LISTENING, _SETTLE, _SETTLED = b"listening", b"settle", b"settled"


class Places:
    """The places that the sidecar listens at, as long as it does."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line

    def lost(self) -> bool:
        """Whether it has stopped; asked when the line says something."""
        try:
            return not self.line.recv(16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def settle(self) -> bool:
        """Have whoever waits at a place turned away. False: it listens no longer."""
        try:
            self.line.send(_SETTLE)
            return self.line.recv(16) == _SETTLED
        except OSError:
            return False

    def close(self) -> None:
        self.line.close()


def hand_over(path: str, places: Sequence[tuple[str, int, str | None]]) -> Places | None:
    """`places`: (address, port, name); `path`: of the sidecar's socket for it. None: it does not take them."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.settimeout(_PATIENCE)
    with ExitStack() as ours, suppress(OSError):
        line.connect(path)
        listener = ours.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(len(places))
        for _ in places:
            # (create_connection looks names up, for which Python imports tables of Unicode)
            connected = ours.enter_context(socket.socket())
            connected.settimeout(_PATIENCE)
            connected.connect(listener.getsockname())
        told = json.dumps({"places": places}).encode()
        if socket.send_fds(line, [told], [listener.fileno()]) == len(told) and line.recv(16) == _LISTENING:
            return Places(line)
    line.close()
    return None
