"""A coordinator as hostile clients see it: two projects on it, a key of each kind, and raw connections."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from coordinator import connections
from coordinator.app import create_app, open_coordinator
from coordinator.connections import Doorkeeper
from coordinator.context import Coordinator
from coordinator.settings import Settings
from tests.conformance.store import task_entry
from tests.unit.coordinator.conftest import ADMIN, Api, ok
from tests.waiting import eventually

MINE, THEIRS = "minimine", "zotherproj"
#: Names that stand in nothing but the other project.
SECRET_NAMES = (THEIRS, "zsecretname", "zqueuename", "ztaskname", "zhookpath", "zeventname")


@dataclass
class Seat:
    """A coordinator with two projects, and what a hostile client of the first one has."""

    api: Api
    core: Coordinator
    keys: dict[str, str] = field(default_factory=dict)
    #: Ids of what belongs to the other project.
    theirs: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.api.url.removeprefix("http://").partition(":")
        return host, int(port)

    def connect(self) -> socket.socket:
        made = socket.create_connection(self.address, timeout=30)
        made.settimeout(30)
        return made

    def alive(self) -> bool:
        with self.api.client(None) as client:
            return client.get("/healthz").is_success


def said(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


@contextmanager
def seat(data: Path, most: int = 400, per_address: int = 200) -> Iterator[Seat]:
    settings = Settings(data=data, admin_key=ADMIN, port=0)
    core = open_coordinator(settings)
    door = Doorkeeper(most, per_address)
    config = uvicorn.Config(
        create_app(core), port=0, log_config=None, timeout_graceful_shutdown=1, **connections.options(door, "")
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    eventually(lambda: server.started and server.servers, "the coordinator to listen")
    api = Api(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
    try:
        yield _furnished(Seat(api, core))
    finally:
        api.close()
        core.waking.close()
        server.should_exit = True
        thread.join(30)


def _furnished(made: Seat) -> Seat:
    api = made.api
    api.deploy(task_entry("greet"), project=MINE)
    options: dict[str, Any] = {
        "queue": {"name": "zqueuename", "concurrency": 1},
        "webhook": {"path": "zhookpath", "secret": "zsecretname", "scheme": "github"},
        "on_event": [{"name": "zeventname"}],
        "schedule": {"cron": "0 3 * * *"},
    }
    entry = task_entry("ztaskname", {"type": "object"}, **options)
    theirs = api.deploy(entry, project=THEIRS)
    ok(api.admin.put(f"/api/v1/secrets/zsecretname?project={THEIRS}", json={"value": "a long secret of theirs"}))
    run = api.trigger(f"{THEIRS}/ztaskname")
    schedule = ok(api.admin.get(f"/api/v1/schedules?project={THEIRS}"))["items"][0]["id"]
    made.theirs = {"run": run["id"], "deployment": theirs["id"], "schedule": schedule, "project": THEIRS}
    for role in ("admin", "trigger", "read"):
        body = {"name": role, "role": role, "project": MINE}
        made.keys[role] = ok(api.admin.post("/api/v1/keys", json=body))["key"]
    return made
