"""The sidecar of a host without runs, for builds in tests to download through, as a runner has them do it."""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from runner.doors import Doors
from runner.sidecar_client import SidecarClient
from tests.waiting import eventually


class Host:
    """A sidecar in a process of its own, and a loop in a thread that asks it."""

    def __init__(self) -> None:
        # short: a path of a socket has at most 107 bytes
        self._directory = tempfile.TemporaryDirectory(prefix="smv")
        root = Path(self._directory.name)
        self.socket, self.containers = root / "s.sock", root / "c"
        environment = {**os.environ, "SAMOVAR_SIDECAR_COORDINATOR_URL": "http://127.0.0.1:9"}
        environment["SAMOVAR_SIDECAR_CONTROL_SOCKET"] = str(self.socket)
        self.process = subprocess.Popen([sys.executable, "-m", "sidecar"], env=environment)
        eventually(self.socket.exists, "the sidecar to listen")
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.client = SidecarClient(self.socket)

    def way(self, log: Callable[[str], None], hosts: Sequence[str] = ()) -> Doors:
        """For one build; `hosts` are those of the operator's policy."""
        return Doors(self.client, self.containers, list(hosts), log, self.loop)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self._directory.cleanup()


@functools.cache
def host() -> Host:
    """One for all tests of a process."""
    made = Host()
    atexit.register(made.close)
    return made
