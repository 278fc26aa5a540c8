"""The fleet's own listeners: what everybody sends fills everybody's port, and runners and sidecars go on."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from coordinator import connections, listening
from coordinator.__main__ import make_server
from coordinator.access import callers
from coordinator.app import create_app, open_coordinator
from coordinator.context import Coordinator
from coordinator.listening import Address, UnsafeAddress
from coordinator.settings import Settings
from coordinator.wire import FLEET
from runner.coordinator_client import CoordinatorClient
from runner.enrolment import enrol
from runner.settings import Settings as RunnerSettings
from tests.enrolled import Runners, own_key
from tests.plain import PLAIN
from tests.security.attempts import attempt
from tests.unit.coordinator.conftest import ADMIN, Api, error, ok
from tests.waiting import eventually

BEAT = {"memory": 2**32, "slots": 4, "task_memory": 2**30}
HEARTBEAT = f"{FLEET}/runners/r1/heartbeat"
MOST = 16


@dataclass
class Apart:
    """A coordinator whose fleet has a listener of its own."""

    api: Api
    core: Coordinator
    #: Where that is.
    url: str

    def runner(self) -> httpx.Client:
        """As a runner that has been let in."""
        headers = {"Authorization": f"Bearer {own_key('r1')}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20, **PLAIN)

    def beat(self) -> int:
        """The status of a heartbeat, before which the runner is let in."""
        with httpx.Client(base_url=self.url, auth=Runners(ADMIN, self.api.url), timeout=20, **PLAIN) as client:
            return client.post(HEARTBEAT, json=BEAT).status_code


def where(server: uvicorn.Server) -> str:
    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


@contextmanager
def apart(data: Path, **given: Any) -> Iterator[Apart]:
    options: dict[str, Any] = {"fleet_listen": "127.0.0.1:0", "max_connections": MOST, **given}
    settings = Settings(data=data, admin_key=ADMIN, port=0, **options)
    core = open_coordinator(settings)
    server = make_server(settings, core, 4096)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    (beside,) = server._beside
    eventually(lambda: server.started and beside.started, "both listeners")
    api = Api(where(server))
    api.runner.close()
    api.runner = httpx.Client(base_url=where(beside), auth=Runners(ADMIN, api.url), timeout=60, **PLAIN)
    try:
        yield Apart(api, core, where(beside))
    finally:
        api.close()
        core.waking.close()
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    with apart(tmp_path_factory.mktemp("apart") / "data") as made:
        yield made


def fleet_paths(core: Coordinator) -> list[tuple[str, str]]:
    """Every route of the fleet's, with something in the place of each name."""
    app = create_app(core)
    found = [
        (method, re.sub(r"\{[^}]+\}", "x", route.path))
        for route in app.routes
        for method in getattr(route, "methods", ())
        if route.path.startswith(f"{FLEET}/")
    ]
    # those that go past the framework
    return [*found, ("POST", f"{FLEET}/runners/r1/claim"), ("POST", f"{FLEET}/attempts/att_x/checkpoint")]


@attempt("client", "a runner's or sidecar's request at everybody's port", "the fleet has its own listener", "421")
def test_the_fleet_is_not_answered_at_everybodys_port(here: Apart) -> None:
    asked = fleet_paths(here.core)
    assert len(asked) > 8
    key = ok(here.api.admin.post("/api/v1/keys", json={"name": "a-host", "role": "runner"}))["key"]
    for bearer in (key, ADMIN, None):
        with here.api.client(bearer) as client:
            for method, path in asked:
                answer = client.request(method, path, json=BEAT if method == "POST" else None)
                if method != "HEAD":
                    said = error(answer, 421, "misdirected")["message"]
                    assert "SAMOVAR_COORDINATOR_FLEET_LISTEN" in said
                    assert "SAMOVAR_COORDINATOR_FLEET_AT_PORT" in said
    with here.api.client(key) as client:
        for path in (f"/{HEARTBEAT}", HEARTBEAT.upper(), HEARTBEAT.replace("/int", "/%69nt"), f"/x/..{HEARTBEAT}"):
            assert client.post(path, json=BEAT).status_code in (401, 404, 405, 421), path
    assert here.beat() == 200


@attempt("client", "anything but the fleet's requests at its listener", "only the fleet's routes", "421")
@pytest.mark.parametrize(
    "path",
    ["/", "/api/v1/runs", "/login", "/openapi.json", "/hooks/a/b", "/tokens/tok_x", "/static/style.css", FLEET],
)
def test_the_fleets_listener_answers_nobody_else(here: Apart, path: str) -> None:
    with httpx.Client(base_url=here.url, headers={"Authorization": f"Bearer {ADMIN}"}, **PLAIN) as client:
        for method in ("GET", "POST"):
            error(client.request(method, path), 421, "misdirected")


def test_health_is_answered_at_both(here: Apart) -> None:
    for url in (here.url, here.api.url):
        for path in ("/healthz", "/readyz"):
            assert httpx.get(url + path, timeout=30, **PLAIN).status_code == 200


def status(here: Apart, path: str = "/healthz") -> bytes:
    """What everybody's port answers to a new connection, its first line; empty where it is closed."""
    host, _, port = here.api.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        try:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            return connection.makefile("rb").readline()
        except ConnectionError:
            return b""


@attempt("client", "as many connections as there may be", "the fleet has its own", "heartbeats are answered")
def test_a_flood_of_connections_leaves_the_fleets(here: Apart) -> None:
    here.api.deploy()
    run = here.api.trigger()["id"]
    poll = f"GET /api/v1/runs/{run}/wait?timeout=55 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\n\r\n"
    host, _, port = here.api.url.removeprefix("http://").partition(":")
    assert here.beat() == 200
    with ExitStack() as held:

        def full() -> bool:
            """Whether nobody new is let in: each that is, waits for what does not come."""
            connection = socket.create_connection((host, int(port)), timeout=30)
            held.callback(connection.close)
            connection.sendall(poll.encode())
            return status(here) in (b"", b"HTTP/1.1 503 Service Unavailable\r\n")

        eventually(full, "everybody's port to be full")
        refused = [status(here) for _ in range(MOST)]
        with here.runner() as client:
            once = {"Connection": "close"}
            beats = [client.post(HEARTBEAT, json=BEAT, headers=once).status_code for _ in range(2 * MOST)]
        assert beats == [200] * (2 * MOST)
        assert not [line for line in refused if b" 200 " in line]
        assert b" 200 " not in status(here), "it was full all the time"


@attempt("client", "more keys to look up than threads", "lines of our own", "heartbeats are answered")
def test_a_flood_of_lookups_leaves_the_fleets(here: Apart, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "_REMEMBERED", 0.0)  # as if each came when it has to be looked up again
    assert here.beat() == 200
    release = threading.Event()
    reads = here.core.database._reads
    lines = ["address:127.0.0.1", "address:192.0.2.1", "health", "project:orders", "fleet:127.0.0.1"]
    held: list[Future[Any]] = [reads.submit(lambda: release.wait(60), line) for line in lines for _ in range(40)]
    try:
        with here.runner() as client:
            beats = [client.post(HEARTBEAT, json=BEAT).status_code for _ in range(10)]
        assert beats == [200] * 10
        assert not any(each.done() for each in held), "nobody else had a turn"
    finally:
        release.set()


@attempt("client", "wrong keys from a runner's own address", "a line for each listener", "another line")
def test_who_is_not_known_waits_at_the_listener_it_came_in_by(here: Apart, monkeypatch: pytest.MonkeyPatch) -> None:
    from coordinator.foundation import turns

    lines: list[str] = []
    find = here.core.callers.find

    async def noted(key: str) -> Any:
        lines.append(turns.lane.get())
        return await find(key)

    monkeypatch.setattr(here.core.callers, "find", noted)
    with here.api.client("wrong") as client:
        error(client.get("/api/v1/runs"), 401, "unauthenticated")
    with httpx.Client(base_url=here.url, headers={"Authorization": "Bearer wrong"}, **PLAIN) as client:
        error(client.post(HEARTBEAT, json=BEAT), 401, "unauthenticated")
    # no more does a key that is known, and is no runner's
    assert ok(here.api.admin.get("/api/v1/hosts"))
    with httpx.Client(base_url=here.url, headers={"Authorization": f"Bearer {ADMIN}"}, **PLAIN) as client:
        error(client.post(HEARTBEAT, json=BEAT), 403, "forbidden")
    assert lines == ["address:127.0.0.1", "fleet:127.0.0.1", "address:127.0.0.1", "fleet:127.0.0.1"]


@attempt("client", "asking after health without an end", "health is a line of its own", "not the fleet's line")
def test_health_is_not_the_fleets_line(here: Apart, monkeypatch: pytest.MonkeyPatch) -> None:
    from coordinator.foundation import turns

    lines: list[str] = []

    async def noted() -> None:
        lines.append(turns.lane.get())

    monkeypatch.setattr(here.core.database, "check", noted)
    for url in (here.api.url, here.url):
        assert httpx.get(f"{url}/readyz", **PLAIN).is_success
    assert lines == ["health", "health"]


def test_an_operator_may_keep_the_fleet_at_the_port(tmp_path: Path) -> None:
    with apart(tmp_path / "data", fleet_at_port=True) as made:
        assert made.beat() == 200
        with httpx.Client(base_url=made.api.url, auth=Runners(ADMIN), timeout=20, **PLAIN) as client:
            assert client.post(HEARTBEAT, json=BEAT).status_code == 200


def test_a_runner_with_both_addresses_finds_the_one_for_it(here: Apart, tmp_path: Path) -> None:
    token = ok(here.api.admin.post("/api/v1/hosts/token", json={}))["token"]
    both = f"{here.api.url},{here.url}"
    made = RunnerSettings(coordinator_url=both, sidecar_socket=tmp_path / "s", state=tmp_path, token=token)

    async def join() -> None:
        client = CoordinatorClient(both, "", "r-both")
        try:
            await enrol(client, made, pause=0.01)
            await client.adopt()
        finally:
            await client.close()

    asyncio.run(asyncio.wait_for(join(), 30))


# ---------------------------------------------------------------- what is listened on


@pytest.mark.parametrize("descriptors", [64, 1024, 4096, 1_000_000])
@pytest.mark.parametrize("most", [16, 4096, 1_000_000])
def test_descriptors_are_divided_so_that_the_fleet_has_its_own(descriptors: int, most: int) -> None:
    room = connections.room(descriptors, most, apart=True)
    # as many as wait are accepted at once, before the first of them is refused and gone
    assert room.everybody + 2 * room.backlog + room.fleet <= descriptors
    assert min(room) > 0
    assert room.fleet == min(most, descriptors // 4)


def test_without_a_listener_of_its_own_all_is_as_it_was() -> None:
    assert connections.room(10_000, 4096, apart=False) == (4096, 0, 2048)
    assert connections.room(1, 4096, apart=False).everybody == 16


def test_addresses_of_the_fleet(tmp_path: Path) -> None:
    def settings(text: str, **more: Any) -> Settings:
        return Settings(data=tmp_path, fleet_listen=text, **more)

    assert listening.fleet(settings("")) == []
    found = listening.fleet(settings("127.0.0.1:7421, [::1]:7422,localhost:0"))
    assert found == [Address("127.0.0.1", 7421), Address("::1", 7422), Address("localhost", 0)]
    listening.check(settings("127.0.0.1:7421,[::1]:7422"))
    for wrong in ("7421", "127.0.0.1", "::1:7421", "127.0.0.1:70000", "http://127.0.0.1:7421", "a b:1"):
        with pytest.raises(UnsafeAddress, match=r"fleet_listen: .* is no HOST:PORT"):
            listening.check(settings(wrong))


@attempt("client", "the fleet's listener beyond loopback without TLS", "a certificate, or a proxy", "refused")
@pytest.mark.parametrize("address", ["0.0.0.0:7421", "[::]:7421", "192.0.2.7:7421", "127.0.0.1:1,10.0.0.1:7421"])
def test_beyond_loopback_the_fleets_listener_takes_tls_or_a_proxy(tmp_path: Path, address: str) -> None:
    with pytest.raises(UnsafeAddress, match=r"fleet_listen .*--tls-cert.*--behind-proxy"):
        listening.check(Settings(data=tmp_path, fleet_listen=address))
    listening.check(Settings(data=tmp_path, fleet_listen=address, behind_proxy=True))
    listening.check(Settings(data=tmp_path, fleet_listen=address, trusted_proxies="10.0.0.1"))


def test_beyond_loopback_the_fleets_listener_speaks_tls(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {cert} -days 2 -subj /CN=localhost"
    subprocess.run(make.split(), check=True, capture_output=True)
    listen = "127.0.0.1:0,0.0.0.0:0"
    settings = Settings(data=tmp_path / "data", admin_key=ADMIN, tls_cert=cert, tls_key=key, fleet_listen=listen)
    listening.check(settings)
    core = open_coordinator(settings)
    try:
        server = make_server(settings, core, 4096)
        assert [each.config.is_ssl for each in server._beside] == [False, True]
        assert server.config.is_ssl
    finally:
        core.database.close()
