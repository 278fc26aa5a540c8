"""A run in an interpreter of its own: a plain Python, which imports the project and runs one task.

Where the project's modules make what a fork would not have (see samovar/environment/forking.py), or the task says
start="fresh". Nothing of process 1's isolation is left in it.
"""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from samovar.environment import forking
from samovar.environment.interpreter import SDK
from samovar.harness.settings import Settings

# the SDK's folder in the place of the working folder: a `queue.py` of the project is not ours to import
_PROGRAM = "import sys; sys.path[0] = sys.argv[1]; from samovar.harness import fresh; fresh.main(sys.argv[2])"


def spawn(
    settings: Settings,
    environment: dict[str, str],
    descriptors: list[int],
    notice: str | None,
    mask: Iterable[int] = (),
    *,
    kept: bool = False,
) -> int:
    """Starts the process of a run, with the variables that the container has; its pid.

    `descriptors`: socket, stdout, stderr; it has no other of this process's. `mask`: the signals that it blocks.
    """
    given = {**settings.describe(), "descriptors": descriptors, "notice": notice, "kept": kept}
    for descriptor in descriptors:
        os.set_inheritable(descriptor, True)
    arguments = [sys.executable, "-c", _PROGRAM, SDK, json.dumps(given)]
    actions: list[Any] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    for number in forking.descriptors():
        if number > 2 and number not in descriptors:
            with suppress(OSError):  # that of the listing itself
                if os.get_inheritable(number):
                    actions.append((os.POSIX_SPAWN_CLOSE, number))
    return os.posix_spawn(sys.executable, arguments, environment, file_actions=actions, setsigmask=mask)


def spawn_kept(
    settings: Settings, environment: dict[str, str], channel: socket.socket, mask: Iterable[int] = ()
) -> int:
    """Starts a process that runs the tasks that come by `channel`; its pid."""
    return spawn(settings, environment, [channel.fileno()], None, mask, kept=True)


def main(given: str) -> None:
    """Runs one task, or one after the other, and exits."""
    from samovar.environment import interpreter
    from samovar.environment.modules import import_modules, read_manifest
    from samovar.harness import kept, output, process, records

    sys.path.pop(0)
    described: dict[str, Any] = json.loads(given)
    settings = Settings.described(described)

    def load() -> None:
        faulthandler.enable(2)
        output.install()
        records.capture()
        manifest = read_manifest(settings.manifest)
        interpreter.prepare(settings.code, manifest)
        import_modules(manifest["modules"])

    if described["kept"]:
        channel = socket.socket(fileno=described["descriptors"][0])
        channel.set_inheritable(False)
        kept.main(channel, load)
    process.main(described["descriptors"], load, described["notice"])
