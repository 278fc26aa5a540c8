"""Which user of the host is at the other end of a socket.

The kernel says so (SO_PEERCRED), by the user id at the time of the connect, as this process's user namespace sees
it. For the control socket that is the rule: the runner is our own user, or root. For a container it only keeps
people out: which container speaks is known by the directory that is mounted into it, and what the kernel says of
one may be its own user, a user of a range that the engine maps it to, root (a gVisor sandbox connects by the
process that serves its files, and says nothing of who asked inside) or nobody (a user that is not mapped here at
all). None of them is an ordinary user of the host.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from pathlib import Path

from samovar import wire

#: Linux 6.16: whether descriptors may be sent to a unix socket.
_SO_PASSRIGHTS = 83
_CREDENTIALS = struct.Struct("3i")


def uid(end: socket.socket) -> int:
    """The user id of the process at the other end of a unix socket."""
    _, user, _ = _CREDENTIALS.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(user) & 0xFFFFFFFF


def uid_of(transport: asyncio.StreamWriter | asyncio.BaseTransport) -> int:
    """The same of a connection of the event loop."""
    return uid(transport.get_extra_info("socket"))


def may_be_a_container(user: int) -> bool:
    """Users below the tasks' own are people and services of the host; above it are that and mapped ones."""
    return user in (0, os.geteuid()) or user >= wire.TASK_UID


def may_control(user: int) -> bool:
    """Whether `user` may tell the sidecar what to do."""
    return user in (0, os.geteuid())


def no_descriptors(sock: socket.socket) -> None:
    """Has the kernel refuse descriptors that are sent to `sock`, or to what it accepts from now on, where it can.

    Who receives one and wants none closes it, and a close may take as long as the sender likes (SO_LINGER).
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)


def listener(path: Path) -> socket.socket:
    """A unix socket at `path` for a container, to which no descriptors are sent. Raises OSError."""
    made = socket.socket(socket.AF_UNIX)
    try:
        made.bind(str(path))
        no_descriptors(made)
    except OSError:
        made.close()
        raise
    return made
