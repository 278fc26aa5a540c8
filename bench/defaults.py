"""What the defaults of a container cost a warm start: the same image with all of them, and with none."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from samovar import wire

from bench.bed import Bed
from bench.figures import Outcome, Series, Target, rounds
from runner.docker_engine import DockerEngine
from runner.spec import ContainerKey, ContainerSpec
from runner.users import FIRST

COST = 1.10
_SECONDS = 60.0
_PATIENCE = 60.0
_MEMORY = 64 * 1024**2


class Harness:
    """Speaks to process 1 of a container in the place of a sidecar, without a coordinator behind."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(directory / wire.SOCKET_NAME))
        (directory / wire.SOCKET_NAME).chmod(0o666)
        self._server.listen(1)
        self._server.settimeout(_PATIENCE)
        self._lines = wire.LineBuffer()
        self._peer = self._server
        self._number = 0
        self._waiting: list[wire.Message] = []

    def connected(self) -> Harness:
        """When the container's modules are imported."""
        self._peer, _ = self._server.accept()
        self._peer.settimeout(_PATIENCE)
        self._until(wire.READY)
        return self

    def start(self, isolation: str = "process") -> float:
        """Milliseconds from the assignment to the first line of user code."""
        began = time.time()
        return 1000 * (float(self.run("warm", isolation=isolation)) - began)

    def run(self, task: str, payload: dict[str, Any] | None = None, isolation: str = "process") -> Any:
        """The result of a run, when the container is ready for the next one."""
        self._number += 1
        attempt = f"a{self._number}"
        run = {"id": "r", "attempt": 1, "task": task, "project": "p", "version": "20260101.1"}
        assignment: wire.Message = {
            "type": wire.ASSIGN,
            "attempt": attempt,
            "run": run,
            "start": "auto",
            "payload": payload or {},
        }
        assignment |= {"checkpoints_complete": True, "isolation": isolation}
        self._peer.sendall(wire.encode(assignment))
        finish = self._until(wire.FINISH)
        if finish["outcome"] != wire.COMPLETED:
            raise RuntimeError(f"the run ended as {finish['outcome']}: {finish.get('error')}")
        if finish["container"] is None:
            self._until(wire.RELEASED)
        return finish["result"]

    def close(self) -> None:
        self._peer.close()
        self._server.close()

    def _until(self, kind: str) -> wire.Message:
        """Grants every request up to the first of this kind."""
        while True:
            while self._waiting:
                request = self._waiting.pop(0)
                self._peer.sendall(wire.encode(wire.reply(request, ticket="t")))
                if request["type"] == kind:
                    return request
            self._waiting = self._lines.feed(self._peer.recv(1 << 20))


def defaults(bed: Bed, count: int) -> Outcome:
    """A warm start in two containers by turns; the target is the ratio of the medians."""
    on, off = Series("with the defaults", "ms"), Series("without any", "ms")
    with speaker() as hardened, speaker() as plain, container(bed, hardened), _plain(bed, plain):
        one, other = hardened.connected(), plain.connected()
        for number in rounds(count + 1, _SECONDS):
            samples = one.start(), other.start()
            if number:  # the first of each touches pages that the others find
                on.add(samples[0])
                off.add(samples[1])
    return Outcome(
        "defaults",
        "assignment → first line of user code in a warm container, without a coordinator",
        [on],
        [off],
        [Target("with the defaults over without", on.median / off.median, COST, "x")],
    )


@contextlib.contextmanager
def speaker() -> Iterator[Harness]:
    directory = Path(tempfile.mkdtemp(prefix="smv-bench-"))
    directory.chmod(0o755)
    harness = Harness(directory)
    try:
        yield harness
    finally:
        harness.close()
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def container(bed: Bed, harness: Harness) -> Iterator[str]:
    """As the runner makes it; its name."""
    key = ContainerKey("bench", bed.image, _MEMORY, 1.0, "none", (), "project", 128, _MEMORY // 2)
    spec = ContainerSpec(f"samovar-bench-{uuid.uuid4().hex[:12]}", "bench", key, str(harness.directory), FIRST)
    engine = DockerEngine()
    try:
        engine.create(spec)
        engine.start(spec.name)
        yield spec.name
    finally:
        engine.remove(spec.name)
        engine.close()


@contextlib.contextmanager
def _plain(bed: Bed, harness: Harness) -> Iterator[None]:
    """As `docker run` makes one for who switches everything off: root, no filter, no limits."""
    engine = bed.docker.engine
    host = engine.create_host_config(
        binds={str(harness.directory): {"bind": wire.SOCKET_DIRECTORY, "mode": "rw"}},
        security_opt=["seccomp=unconfined", "apparmor=unconfined"],
    )
    made = engine.create_container(bed.image, user="0:0", host_config=host, labels={"samovar.test": "1"})["Id"]
    try:
        engine.start(made)
        yield
    finally:
        engine.remove_container(made, force=True, v=True)
