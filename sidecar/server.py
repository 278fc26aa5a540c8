"""The sidecar: the proxy between task containers and the coordinator, one on each host.

It exists because user code must never see a credential and never reach the coordinator. It knows who
speaks by the listener a connection came in on, attaches the attempt's token and secret itself, lets only
the messages of samovar.wire through, each under its size limit, and waits out a coordinator that is away.

What it promises: a checkpoint is answered when it is durable, not before; log lines are kept, up to a
budget, while the coordinator is away; it can be killed and started again at any moment, because all it
knows is told to it again by the runner (which containers, which attempts) and by the containers (which
requests were not answered).
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys

import uvloop

from coordinator.wire.directories import private
from sidecar.control import Sidecar
from sidecar.events import EventLog
from sidecar.session import Control
from sidecar.settings import Settings

#: Seconds for what is being answered when it ends.
_FAREWELL = 2.0


class Server:
    """Listens for the runner, and for the containers that it tells of."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._listening: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens from here on. Raises OSError."""
        path = self._settings.control_socket
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(str(path))
            # before anybody can connect
            path.chmod(0o600)
        except BaseException:
            listener.close()
            raise
        self._sidecar = Sidecar(self._settings, EventLog())
        self._control = Control(self._sidecar)
        self._listening = await asyncio.get_running_loop().create_unix_server(self._control.session, sock=listener)

    async def stop(self) -> None:
        """Ends; the containers' directories stay, for the sidecar after this one."""
        assert self._listening is not None
        self._listening.close()
        await self._control.close(_FAREWELL)
        await self._sidecar.close()


async def _until_told(settings: Settings) -> None:
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, told.set)
    server = Server(settings)
    await server.start()
    await told.wait()
    await server.stop()


def serve(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT."""
    try:
        # the containers' sockets are open to any user who comes as far: these two keep others out
        private(settings.control_socket.parent)
        private(settings.containers_directory)
    except OSError as error:
        print(f"sidecar: the directory of the sockets: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    uvloop.run(_until_told(settings))
