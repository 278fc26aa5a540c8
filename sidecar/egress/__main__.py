"""`python -m sidecar.egress DESCRIPTOR [HOSTS]`: started by the sidecar, and gone when it is."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sys
from pathlib import Path

import structlog

from sidecar import logging
from sidecar.egress.server import Server

log = structlog.get_logger()


async def serve(control: socket.socket, hosts: Path | None) -> None:
    await Server(control, os.environ, hosts).run()


def main() -> None:
    # as the sidecar's own, which it has from it; nothing else is imported that is not needed here
    os.umask(0o077)
    # what a container has sent is not to lie on the disk
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # at a terminal it hears what the sidecar hears: it goes when that has gone
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.configure()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        hosts = Path(sys.argv[2]) if len(sys.argv) > 2 else None
        try:
            import uvloop
        except ImportError:
            asyncio.run(serve(control, hosts))
        else:
            uvloop.run(serve(control, hosts))
    # a thread may wait for the system's resolver yet, and nobody for that
    os._exit(0)


if __name__ == "__main__":
    main()
