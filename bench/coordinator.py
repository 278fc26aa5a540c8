"""A real coordinator process whose runner is played by hand: what the API costs, without a container."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import httpx

from bench.postgres import database
from tests.ports import free_port
from tests.unit.coordinator.conftest import ADMIN, Api
from tests.waiting import eventually

Filled = TypeVar("Filled")

DATABASES = ("SQLite", "PostgreSQL")


@contextlib.contextmanager
def coordinator(kind: str) -> Iterator[Api]:
    """One of its own with the shipped defaults on a fresh database of this kind; gone at the end."""
    with filled(kind, lambda url: None) as (api, _, _):
        yield api


@contextlib.contextmanager
def filled(kind: str, fill: Callable[[str], Filled]) -> Iterator[tuple[Api, Filled, int]]:
    """The same on a database that `fill` has filled before, by its URL; what that gave, and its process's id."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="samovar-bench-")))
        (directory / "data").mkdir(mode=0o700)
        url = stack.enter_context(database()) if kind == "PostgreSQL" else None
        found = fill(url or f"sqlite:///{directory / 'data' / 'coordinator.db'}")
        port = free_port()
        command = [sys.executable, "-m", "coordinator", "--data", str(directory / "data"), "--port", str(port)]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SAMOVAR_")}
        environment["SAMOVAR_COORDINATOR_ADMIN_KEY"] = ADMIN
        if url is not None:
            environment["SAMOVAR_COORDINATOR_DATABASE_URL"] = url
        log = directory / "log"
        with log.open("wb") as stderr:
            child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=stderr)
        api = Api(f"http://127.0.0.1:{port}")

        def ready() -> bool:
            if child.poll() is not None:
                raise RuntimeError(f"the coordinator ended: {log.read_text()}")
            try:
                return api.admin.get("/readyz").is_success
            except httpx.TransportError:
                return False

        try:
            eventually(ready, "the coordinator is ready")
            yield api, found, child.pid
        finally:
            api.close()
            child.terminate()
            child.wait(30)
