"""The floor of a cold start: the same hardened container, whose Python does nothing but answer."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from samovar import wire

from bench.bed import Bed
from bench.defaults import container, speaker
from bench.peers import PYTHON

_ANSWER = f"""
import socket
peer = socket.socket(socket.AF_UNIX)
peer.connect("{wire.SOCKET_DIRECTORY}/{wire.SOCKET_NAME}")
peer.send(b"x")
"""
_PATIENCE = 60.0


class Floor:
    """Containers with all that the runner sets for one, made through the same engine."""

    def __init__(self, bed: Bed, config: dict[str, Any]) -> None:
        self._engine = bed.docker.engine
        self._config = config

    def first(self) -> float:
        """Milliseconds from create to the first byte of its Python."""
        return self.together(1)

    def together(self, count: int) -> float:
        """The same of the last one of `count` that are made at once."""
        with contextlib.ExitStack() as stack:
            directories = [stack.enter_context(_directory()) for _ in range(count)]
            names = [f"samovar-bench-{uuid.uuid4().hex[:12]}" for _ in range(count)]
            for name in names:
                stack.callback(self._remove, name)
            with ThreadPoolExecutor(count) as threads:
                began = time.monotonic()
                list(threads.map(self._start, names, directories))
                return 1000 * (time.monotonic() - began)

    def _start(self, name: str, directory: tuple[Path, socket.socket]) -> None:
        path, server = directory
        mounts = [
            {**mount, "Source": str(path)} if mount["Target"] == wire.SOCKET_DIRECTORY else mount
            for mount in self._config["HostConfig"]["Mounts"]
        ]
        host = {**self._config["HostConfig"], "Mounts": mounts}
        config = {**self._config, "HostConfig": host}
        self._engine.create_container_from_config(config, name)  # type: ignore[no-untyped-call]
        self._engine.start(name)
        with server.accept()[0] as peer:
            peer.settimeout(_PATIENCE)
            if peer.recv(1) != b"x":
                raise RuntimeError(f"the container {name} ended before it answered")

    def _remove(self, name: str) -> None:
        self._engine.remove_container(name, force=True, v=True)


@contextlib.contextmanager
def floor(bed: Bed) -> Iterator[Floor]:
    """Of the bed's image, as the runner would make its container."""
    with speaker() as harness, container(bed, harness) as name:
        made = bed.docker.engine.inspect_container(name)
    config = {key: made["Config"][key] for key in ("Image", "Hostname", "User", "Env", "Labels", "WorkingDir")}
    config |= {"HostConfig": made["HostConfig"], "Entrypoint": [PYTHON], "Cmd": ["-I", "-c", _ANSWER]}
    yield Floor(bed, config)


@contextlib.contextmanager
def _directory() -> Iterator[tuple[Path, socket.socket]]:
    """With a socket that listens there."""
    path = Path(tempfile.mkdtemp(prefix="smv-bench-"))
    path.chmod(0o755)
    server = socket.socket(socket.AF_UNIX)
    try:
        server.bind(str(path / wire.SOCKET_NAME))
        (path / wire.SOCKET_NAME).chmod(0o666)
        server.listen(1)
        server.settimeout(_PATIENCE)
        yield path, server
    finally:
        server.close()
        shutil.rmtree(path, ignore_errors=True)
