"""Runs a program beside a relay from loopback to a socket that leads out; the relay ends with it.

For containers that have no process 1 of ours, such as builders: they are given this and the relay as files.

    relayed.py SOCKET ADDRESS:PORT PROGRAM ARGUMENT…
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    path, place, *command = sys.argv[1:]
    # the directory that `samovar` is in: an isolated Python does not look there
    sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..")))
    from samovar.harness import relay
    from samovar.harness.listeners import Listener

    address, _, port = place.rpartition(":")
    # before the program is there, so that it finds somebody
    listener = Listener(address, int(port))
    if os.fork() == 0:
        try:
            relay.main([listener], path, os.open(os.devnull, os.O_WRONLY))
        finally:
            os._exit(1)
    listener.socket.close()
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
