"""What the zygote becomes where no run may be forked from it: a process without the project, which starts others.

It keeps the zygote's process id and its socket to process 1, and gives back the memory of the imports, with
whatever threads and connections they had made.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import NoReturn

from samovar.harness import kernel
from samovar.harness.settings import Settings

_SDK = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from samovar.harness import spawner; spawner.main(sys.argv[2])"
)


def become(settings: Settings, control: socket.socket, notice: str) -> NoReturn:
    """In the zygote: go on as a spawner."""
    given = {**settings.describe(), "control": control.fileno(), "notice": notice}
    control.set_inheritable(True)
    # the variables that it was started with: user code may have changed them since
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", _PROGRAM, _SDK, json.dumps(given)])


def main(given: str) -> None:
    """Start runs until process 1 is gone."""
    from samovar.harness import zygote

    kernel.set_dumpable(False)
    kernel.die_with_parent(signal.SIGKILL)
    described = json.loads(given)
    control = socket.socket(fileno=described["control"])
    control.set_inheritable(False)
    for pid in kernel.descendants(os.getpid()):  # what the modules have started
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    zygote.serve(control, Settings.described(described), zygote.Starts(described["notice"], forks=False))
