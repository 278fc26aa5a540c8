"""Starting runs, one after another; and what the zygote becomes where none may be forked from it.

A process without the project, which keeps the zygote's process id and its socket to process 1, and gives back the
memory of the imports, with whatever threads and connections they had made.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NoReturn

from samovar.environment import forking
from samovar.environment.interpreter import SDK
from samovar.environment.starts import AUTO, FORK, FRESH
from samovar.harness import fresh, kernel
from samovar.harness.settings import Settings

_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from samovar.harness import spawner; spawner.main(sys.argv[2])"
)


class Starts:
    """How the runs of this container begin: `notice` says why not by a fork; `forks` whether a fork is possible;
    `unkept` why there is but one run in it.
    """

    def __init__(self, notice: str | None = None, forks: bool = True, unkept: str | None = None) -> None:
        self.notice = notice
        self.forks = forks
        self.unkept = unkept

    def fresh(self, asked: str) -> bool:
        """Whether a run begins in an interpreter of its own, for what its task says."""
        return not self.forks or asked == FRESH or (asked != FORK and self.notice is not None)


def become(settings: Settings, control: socket.socket, notice: str, environment: dict[str, str]) -> NoReturn:
    """In the zygote: go on as a spawner."""
    given = {**settings.describe(), "control": control.fileno(), "notice": notice}
    for number in forking.descriptors():  # what native code has opened may be told to outlive this
        if number > 2 and number != control.fileno():
            with suppress(OSError):  # that of the listing itself
                os.set_inheritable(number, False)
    control.set_inheritable(True)
    program = [sys.executable, "-I", "-S", "-c", _PROGRAM, SDK, json.dumps(given)]
    os.execve(sys.executable, program, environment)


def main(given: str) -> None:
    """Start runs until process 1 is gone."""
    kernel.set_dumpable(False)
    kernel.die_with_parent(signal.SIGKILL)
    described = json.loads(given)
    control = socket.socket(fileno=described["control"])
    control.set_inheritable(False)
    for pid in kernel.descendants(os.getpid()):  # what the modules have started
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    starts = Starts(described["notice"], forks=False)
    serve(control, Settings.described(described), starts, dict(os.environ))


def serve(control: socket.socket, settings: Settings, starts: Starts, environment: dict[str, str]) -> None:
    """Start runs, one after another, until process 1 is gone.

    `environment` has the variables that a run in an interpreter of its own begins with. No signal is taken here:
    a handler of the project's would change what later runs are forked from, at the wish of a run.
    """
    mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    places = forking.places() if starts.forks else {}
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, 64, 3, socket.MSG_CMSG_CLOEXEC)
        if not data:
            return
        while signal.sigtimedwait(signal.valid_signals(), 0) is not None:
            pass  # which signals wait, the next run could see
        asked = data.decode()
        if starts.fresh(asked):
            why = starts.notice if asked == AUTO else None
            notice = "\n".join(filter(None, [why, starts.unkept])) or None
            _attend(control, descriptors, fresh.spawn(settings, environment, descriptors, notice, mask))
        else:
            _attend(control, descriptors, _fork(control, descriptors, starts.unkept, mask))
        forking.put_back(places)


def _fork(control: socket.socket, descriptors: list[int], notice: str | None, mask: Iterable[int]) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        try:
            control.close()
            from samovar.harness import process

            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            process.main(descriptors, notice=notice)
        finally:
            os._exit(70)  # process.main does not return
    return pid


def _attend(control: socket.socket, descriptors: list[int], pid: int) -> None:
    """Tells process 1 of a run's process, and how it ended."""
    for descriptor in descriptors:
        os.close(descriptor)
    say(control, {"forked": pid})
    _, status, usage = os.wait4(pid, 0)
    say(control, {"exited": status, "peak": usage.ru_maxrss * 1024})


def say(control: socket.socket, message: dict[str, Any]) -> None:
    """To process 1."""
    try:
        control.send(json.dumps(message).encode())
    except OSError:
        os._exit(0)  # process 1 is gone
