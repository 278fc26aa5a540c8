"""What process 1 and the process of one run have in common: a socket, and pipes for stdout and stderr."""

from __future__ import annotations

import _socket
import os


class Ends:
    """Process 1's ends, and the others until the process has them."""

    def __init__(self) -> None:
        # without the class on top, which asks the kernel for what is known and spells it out
        self.socket, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.stdout, out = os.pipe()
        self.stderr, err = os.pipe()
        for ours in (self.stdout, self.stderr):
            os.set_blocking(ours, False)
        #: Socket, stdout and stderr, as the process takes them.
        self.theirs = [theirs.detach(), out, err]

    def given(self) -> None:
        """The process has its own."""
        for descriptor in self.theirs:
            os.close(descriptor)
        self.theirs = []

    def close(self) -> None:
        """Nobody listens here any more: a process that waits for its run ends."""
        self.socket.close()
        for descriptor in (self.stdout, self.stderr):
            os.close(descriptor)
