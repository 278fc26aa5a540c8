"""Attempts of a run against its way out, on runc and in gVisor: nothing is reached but what was named.

The names lead to servers of the test on loopback, which hear of whatever gets through.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import private_engine
from tests.security.attempts import attempt
from tests.stack import PROJECTS, Stack, stack
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("unchanged_host")

#: What each attempt is, in words; the names are those of tests/projects/outbound.
ATTEMPTS = {
    "loopback_plain": "the host's loopback, by its address",
    "loopback_short": "the same as 127.1",
    "loopback_decimal": "the same in decimal",
    "loopback_hexadecimal": "the same in hexadecimal",
    "loopback_octal": "the same in octal",
    "loopback_unspecified": "the same as 0.0.0.0",
    "loopback_zero": "the same as 0",
    "loopback_ipv6": "the same in IPv6",
    "loopback_mapped": "the same as an IPv4-mapped address",
    "loopback_compatible": "the same as an IPv4-compatible address",
    "loopback_nat64": "the same through NAT64",
    "loopback_six_to_four": "the same through 6to4",
    "loopback_scoped": "the same with a zone",
    "loopback_name": "the same by its name",
    "loopback_dotted_name": "the same by its name in odd cases, with a dot",
    "metadata": "the cloud's metadata address",
    "metadata6": "the same on IPv6",
    "gateway": "the bridge's gateway",
    "neighbours": "a host of the LAN",
    "company": "a host of the company's network",
    "carrier": "an address of the carrier's NAT",
    "multicast": "a multicast address",
    "broadcast": "the broadcast address",
    "docker": "the name that Docker has for the host",
    "other_host": "a host that was not named",
    "other_port": "another port of a host that was named",
    "no_port": "a host without a port",
    "wrong_port": "a port beyond the last",
    "userinfo": "another host behind a user's name",
    "fragment": "another host before a fragment",
    "null": "another host before a null byte",
    "two_targets": "two targets in one line",
    "host_header": "another host than the Host header says",
    "absolute": "another host in plain HTTP, in the absolute form",
    "origin": "another host in plain HTTP, in the origin form",
    "other_scheme": "a file of the sidecar's",
    "smuggled": "a request inside a request",
    "bare_line_feed": "lines without a carriage return",
    "folded": "a folded header",
    "older": "a version of HTTP that is none",
    "tunnelled_name": "text of the run inside a name, for a name server",
    "control_socket": "the sidecar's control socket",
    "another_socket": "the way out of another container",
}
REFUSED = frozenset({"400", "403", "431", "502", "505", "closed"})
NO_SOCKET = frozenset({"ENOENT", "EACCES"})
EXPECTED = {"control_socket": NO_SOCKET, "another_socket": NO_SOCKET, "tunnelled_name": frozenset({"403"})}
#: What holds other attempts, and what they meet.
ELSEWHERE = {
    "control_socket": ("one directory for each container", "no such socket"),
    "another_socket": ("one directory for each container", "no such socket"),
    "tunnelled_name": ("from a list only its own names are resolved", "refused, and not resolved"),
}
UNTRUSTED = 'trust = "untrusted"'
CONTROL = "the sidecar resolves and judges every target"


@dataclass
class Server:
    """Sends back what it hears, and counts who came."""

    port: int = 0
    came: int = 0
    open: int = 0
    _sockets: list[socket.socket] = field(default_factory=list)

    def accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = server.accept()
                self.came += 1
                self.open += 1
                threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError), peer:
            while data := peer.recv(4096):
                peer.sendall(data)
        self.open -= 1


@contextlib.contextmanager
def server() -> Iterator[Server]:
    made = Server()
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        made.port = listener.getsockname()[1]
        threading.Thread(target=made.accept, args=(listener,), daemon=True).start()
        yield made
        listener.shutdown(socket.SHUT_RDWR)


@dataclass
class World:
    samovar: Stack
    allowed: Server
    other: Server

    def run(self, task: str) -> Any:
        run = self.samovar.finished(task)
        assert run["status"] == "completed", run["error"]
        return run["result"]


@contextlib.contextmanager
def world(directory: Path, toml: str = "", **environment: str) -> Iterator[World]:
    with server() as allowed, server() as other:
        hosts = directory / "hosts"
        hosts.write_text("127.0.0.1 allowed.internal other.internal host.docker.internal\n")
        project = directory / "outbound"
        shutil.copytree(PROJECTS / "outbound", project)
        with (project / "samovar.toml").open("a") as file:
            file.write(f'{toml}\n[env]\nPORT = "{allowed.port}"\nOTHER = "{other.port}"\n')
        policy = f'private = ["allowed.internal:{allowed.port}"]\nports = [{allowed.port}, {other.port}, 80]'
        with stack(policy, SAMOVAR_SIDECAR_HOSTS=str(hosts), **environment) as samovar:
            samovar.deploy_path(project)
            yield World(samovar, allowed, other)


@pytest.fixture(scope="module")
def runc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("runc")) as made:
        yield made


@pytest.fixture(scope="module")
def listed(runc: World) -> dict[str, str]:
    found: dict[str, str] = runc.run("by-a-list")
    assert runc.other.came == 0
    return found


@pytest.fixture(scope="module")
def public(runc: World) -> dict[str, str]:
    found: dict[str, str] = runc.run("by-the-proxy")
    assert runc.other.came == 0
    return found


def lines() -> list[Any]:
    """Each attempt as a line of the page."""
    made = []
    for name, tried in ATTEMPTS.items():
        control, expected = ELSEWHERE.get(name, (CONTROL, "refused, and not connected to"))
        mark = attempt("run", f"reach {tried}", control, expected, expected)
        made.append(pytest.param(name, marks=mark, id=name))
    return made


@pytest.mark.parametrize("name", lines())
def test_from_a_list(listed: dict[str, str], name: str) -> None:
    assert listed[name] in EXPECTED.get(name, REFUSED)


@pytest.mark.parametrize("name", sorted(ATTEMPTS.keys() - {"tunnelled_name"}))
def test_from_what_is_public(public: dict[str, str], name: str) -> None:
    assert public[name] in EXPECTED.get(name, REFUSED)


def test_every_attempt_is_a_line(listed: dict[str, str]) -> None:
    assert set(listed) == set(ATTEMPTS)


@attempt("run", "connect past the sidecar, in a container with a list", "no network but loopback", "ENETUNREACH")
def test_there_is_no_way_but_the_sidecar(runc: World) -> None:
    assert runc.run("directly") == ["ENETUNREACH"] * 3 + ["gaierror"]


@attempt("run", "use the way out without a network", "no socket for who reaches nothing", "ENOENT")
def test_without_a_network_there_is_no_socket(runc: World) -> None:
    assert runc.run("without") == "ENOENT"


@attempt("run", "leave a process that goes on to reach out", "connections end with the run", "not connected to")
def test_a_process_that_is_left(runc: World) -> None:
    assert runc.run("leave") == "left"
    eventually(lambda: runc.allowed.open == 0, "the connections to end")
    came = runc.allowed.came
    # another run's time, in which the process that was left would have had its chances
    assert runc.run("without") == "ENOENT"
    assert runc.run("hold") == "held"
    assert runc.allowed.came <= came + 2


@attempt("run", "keep connections open for the next run", "connections end with the run", "closed")
def test_connections_that_are_kept(runc: World) -> None:
    before = runc.allowed.came
    assert runc.run("hold") == "held"
    assert runc.allowed.came == before + 2
    eventually(lambda: runc.allowed.open == 0, "the connections to end")


def test_in_gvisor(base_image: str, tmp_path: Path) -> None:
    if (lacking := private_engine.lacking()) is not None:
        pytest.skip(f"a private Docker Engine with gVisor {lacking}")
    with private_engine.private_engine(base_image) as address, contextlib.ExitStack() as held:
        made = held.enter_context(world(tmp_path, UNTRUSTED, DOCKER_HOST=address))
        found = made.run("by-a-list")
        assert {name: answer for name, answer in found.items() if answer not in EXPECTED.get(name, REFUSED)} == {}
        assert made.other.came == 0
        assert made.run("hold") == "held"
        eventually(lambda: made.allowed.open == 0, "the connections to end")
        assert made.run("leave") == "left"
        eventually(lambda: made.allowed.open == 0, "the connections to end")
        assert set(made.run("directly")) <= {"ENETUNREACH", "EHOSTUNREACH", "EADDRNOTAVAIL", "gaierror", "timeout"}
