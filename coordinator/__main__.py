"""`python -m coordinator`: every setting is a flag and an environment variable."""

from __future__ import annotations

import gc

if __name__ == "__main__":
    # it would look again and again at all that was imported so far: a sixth of the start
    gc.disable()

import asyncio
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import structlog
import uvicorn
from pydantic_settings import CliApp

from coordinator import connections, listening
from coordinator.api.doors import FleetDoor, PublicDoor
from coordinator.app import create_app, open_coordinator
from coordinator.connections import Doorkeeper
from coordinator.context import Coordinator
from coordinator.foundation import logging
from coordinator.foundation.errors import CoordinatorError
from coordinator.settings import Settings
from coordinator.wire.directories import UMASK

log = structlog.get_logger()

#: Seconds that requests in progress get when the server stops; long polls end at once.
_GRACE = 3
#: Seconds after which a thread that computes lets another one go on. With Python's 5 ms the loop, and the one that
#: writes, would wait that long after each statement for a thread that looks through somebody's large body; with
#: less than this the turns take what they give (decision 47).
_SWITCH = 0.0003
#: Files that are open besides connections: the database's, blobs, pipes.
_OTHER_FILES = 128


class _Beside(uvicorn.Server):
    """A listener that leaves the signals to another."""

    def __init__(self, config: uvicorn.Config, answers: str) -> None:
        """`answers`: whom, in words for the log."""
        super().__init__(config)
        self._answers = answers

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            log.info("listening", url=_url(self), answers=self._answers)


class Server(uvicorn.Server):
    """Ends the long polls at the signal: uvicorn waits for every request before it shuts anything down."""

    def __init__(self, config: uvicorn.Config, coordinator: Coordinator, beside: Sequence[_Beside] = ()) -> None:
        """`beside`: other listeners, whose lives are in this one's."""
        super().__init__(config)
        self._coordinator = coordinator
        self._beside = beside

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        serving = [asyncio.create_task(each.serve()) for each in self._beside]
        try:
            await super().serve(sockets)
        finally:
            self._end_others()
            await asyncio.gather(*serving)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # a handler of `signal` runs between two steps of the loop, in its thread
        self._coordinator.waking.close()
        self._end_others()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            log.info("listening", url=_url(self), database=self._coordinator.database.name)

    def _end_others(self) -> None:
        for each in self._beside:
            each.should_exit = True


def _url(server: uvicorn.Server) -> str:
    host, scheme = server.config.host, "https" if server.config.is_ssl else "http"
    port = server.servers[0].sockets[0].getsockname()[1]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def make_server(settings: Settings, coordinator: Coordinator, descriptors: int) -> Server:
    """All that is listened on, with one application behind it. `descriptors`: connections that there may be."""
    apart = listening.fleet(settings)
    room = connections.room(descriptors, settings.max_connections, bool(apart))
    proxies = settings.trusted_proxies
    common: dict[str, Any] = {
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": _GRACE,
        # fleet connections are held open between long polls
        "timeout_keep_alive": 75,
    }

    def options(most: int) -> dict[str, Any]:
        door = Doorkeeper(most, settings.max_connections_per_address, connections.trusted(proxies))
        return {**common, **connections.options(door, proxies)}

    app = create_app(coordinator)
    public = PublicDoor(app) if apart and not settings.fleet_at_port else app
    everybody = {**options(room.everybody), "backlog": room.backlog}
    config = uvicorn.Config(public, host=settings.host, port=settings.port, **listening.tls(settings), **everybody)
    beside = []
    if settings.local_port is not None:
        local = uvicorn.Config(public, host="127.0.0.1", port=settings.local_port, lifespan="off", **everybody)
        beside.append(_Beside(local, "this machine"))
    fleet = {**options(room.fleet), "backlog": connections.BACKLOG}
    for host, port in apart:
        tls = {} if listening.is_loopback(host) else listening.tls(settings)
        each = uvicorn.Config(FleetDoor(app), host=host, port=port, lifespan="off", **tls, **fleet)
        beside.append(_Beside(each, "runners and sidecars"))
    return Server(config, coordinator, beside)


def _descriptors() -> int:
    """Raises the limit of open files as far as that goes without a privilege; what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1_000_000


def main() -> None:
    gc.freeze()  # what was imported stays
    gc.enable()
    sys.setswitchinterval(_SWITCH)
    os.umask(UMASK)
    settings = CliApp.run(Settings)
    logging.configure(settings.log_level)
    try:
        listening.check(settings)
        coordinator = open_coordinator(settings)
    except CoordinatorError as error:
        print(f"coordinator: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    # a supervisor that goes away must not take the log's reader as a reason to die half-way
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    make_server(settings, coordinator, _descriptors() - _OTHER_FILES).run()


if __name__ == "__main__":
    main()
