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
import socket
import sys
from types import FrameType

import structlog
import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from coordinator.wire.directories import private
from sidecar import peers
from sidecar.control import create_app
from sidecar.events import EventLog
from sidecar.settings import Settings

log = structlog.get_logger()


class OwnersOnly(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """HTTP with the runner: whoever else comes as far as the socket is not heard."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        user = peers.uid_of(transport)
        if peers.may_control(user):
            super().connection_made(transport)
            return
        log.warning("refused a control connection", user=user)
        assert isinstance(transport, asyncio.Transport)
        transport.abort()
        # the protocol never begins: what is left of the connection is nobody's
        transport.set_protocol(asyncio.Protocol())


class Server(uvicorn.Server):
    """Ends the long polls at the signal: uvicorn waits for every request before it shuts anything down."""

    def __init__(self, config: uvicorn.Config, events: EventLog) -> None:
        super().__init__(config)
        self._events = events

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # a handler of `signal` runs between two steps of the loop, in its thread
        self._events.close()
        super().handle_exit(sig, frame)


def serve(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT."""
    path = settings.control_socket
    try:
        # the containers' sockets are open to any user who comes as far: these two keep others out
        private(path.parent)
        private(settings.containers_directory)
    except OSError as error:
        print(f"sidecar: the directory of the sockets: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        # bound here and not by the server, which would open it to every user
        path.chmod(0o600)
        events = EventLog()
        app = create_app(settings, events)
        config = uvicorn.Config(
            app, http=OwnersOnly, log_level="warning", access_log=False, timeout_graceful_shutdown=2
        )
        Server(config, events).run(sockets=[listener])
