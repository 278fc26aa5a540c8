"""Places that process 1 hands over to the sidecar: who listens there, and who does when the sidecar does not."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from samovar import wire
from samovar.harness.egress import Egress

from tests.unit.harness.listener import close
from tests.unit.harness.test_egress import free_ports


class Sidecar:
    """Takes places, or is asked and does not; counts how often process 1 has had nobody wait there."""

    def __init__(self, path: Path, *, takes: bool) -> None:
        self.places: list[list[object]] = []
        self.settled = 0
        self.line: socket.socket | None = None
        self._takes = takes
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._server.bind(str(path))
        self._server.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            self.line, _ = self._server.accept()
            data, (descriptor,), _, _ = socket.recv_fds(self.line, 65536, 4)
            self.places = json.loads(data)["places"]
            with socket.socket(fileno=descriptor) as handed:
                assert [handed.accept()[0].close() for _ in self.places]
            if not self._takes:
                self.line.close()
                return
            self.line.send(b"listening")
            while self.line.recv(16) == b"settle":
                self.settled += 1
                self.line.send(b"settled")

    def stop(self) -> None:
        close(self._server)
        if self.line is not None:
            close(self.line)


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="samovar-test-") as made:
        yield Path(made)


def told(ports: list[int]) -> str:
    relays = [["127.0.0.1", ports[1], "db.example"]]
    return json.dumps({"proxy": f"127.0.0.1:{ports[0]}", "relays": relays, "direct": []})


def harness(directory: Path, ports: list[int]) -> tuple[Egress, selectors.BaseSelector]:
    egress, selector = Egress(told(ports), str(directory / wire.EGRESS_NAME)), selectors.DefaultSelector()
    egress.use(selector)
    return egress, selector


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_what_the_sidecar_takes_it_listens_at_alone(directory: Path) -> None:
    ports, sidecar = free_ports(2), Sidecar(directory / wire.PLACES_NAME, takes=True)
    egress, _ = harness(directory, ports)
    assert sidecar.places == [["127.0.0.1", ports[0], None], ["127.0.0.1", ports[1], "db.example"]]
    assert egress.listeners == []
    assert not any(map(listens, ports))
    for number in (1, 2):
        egress.begin(lambda text: None)
        egress.end()
        egress.settle()
        assert sidecar.settled == number
    egress.close()
    sidecar.stop()


def test_what_it_does_not_take_process_one_listens_at(directory: Path) -> None:
    ports, sidecar = free_ports(2), Sidecar(directory / wire.PLACES_NAME, takes=False)
    egress, _ = harness(directory, ports)
    assert all(map(listens, ports))
    egress.close()
    sidecar.stop()


def test_an_older_sidecar_is_not_waited_for(directory: Path) -> None:
    ports = free_ports(2)
    egress, _ = harness(directory, ports)
    assert all(map(listens, ports))
    egress.close()


def test_a_sidecar_that_is_lost_leaves_the_places_to_process_one(directory: Path) -> None:
    ports, sidecar = free_ports(2), Sidecar(directory / wire.PLACES_NAME, takes=True)
    egress, selector = harness(directory, ports)
    sidecar.stop()
    for key, mask in selector.select(20):
        key.data(mask)
    assert egress.places is None
    assert all(map(listens, ports))
    egress.close()


def test_one_that_is_lost_as_a_run_ends_does_so_too(directory: Path) -> None:
    ports, sidecar = free_ports(2), Sidecar(directory / wire.PLACES_NAME, takes=True)
    egress, _ = harness(directory, ports)
    egress.begin(lambda text: None)
    sidecar.stop()
    egress.end()
    egress.settle()
    assert egress.places is None
    assert all(map(listens, ports))
    egress.close()


def test_nothing_that_was_made_for_it_is_kept(directory: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    sidecar = Sidecar(directory / wire.PLACES_NAME, takes=True)
    egress, selector = harness(directory, free_ports(2))
    selector.close()
    egress.close()
    sidecar.stop()
    assert len(os.listdir("/proc/self/fd")) <= before
