"""Starting runs, one after another; and what the zygote becomes where none may be forked from it.

A process without the project, which keeps the zygote's process id and its socket to process 1, and gives back the
memory of the imports, with whatever threads and connections they had made.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import json
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Callable, NoReturn, Optional

from samovar.environment import forking
from samovar.environment.interpreter import SDK
from samovar.environment.starts import AUTO, FORK, FRESH
from samovar.harness import fresh, kernel
from samovar.harness.control import Control
from samovar.harness.settings import Settings

#: Every signal, as plain numbers: what `signal` puts on top makes an enum of each, in every run.
_EVERY = [int(number) for number in signal.valid_signals()]
Run = Callable[[Sequence[int], None, Optional[str]], NoReturn]
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


def become(settings: Settings, control: Control, notice: str, environment: dict[str, str]) -> NoReturn:
    """In the zygote: go on as a spawner."""
    given = {**settings.describe(), "control": control.descriptors(), "notice": notice}
    for number in forking.descriptors():  # what native code has opened may be told to outlive this
        if number > 2:
            with suppress(OSError):  # that of the listing itself
                os.set_inheritable(number, number in control.descriptors())
    program = [sys.executable, "-I", "-S", "-c", _PROGRAM, SDK, json.dumps(given)]
    os.execve(sys.executable, program, environment)


def main(given: str) -> None:
    """Start runs until process 1 is gone."""
    kernel.set_dumpable(False)
    kernel.die_with_parent(signal.SIGKILL)
    described = json.loads(given)
    control = Control.inherited(described["control"])
    for pid in kernel.descendants(os.getpid()):  # what the modules have started
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    starts = Starts(described["notice"], forks=False)
    serve(control, Settings.described(described), starts, dict(os.environ))


def serve(
    control: Control,
    settings: Settings,
    starts: Starts,
    environment: dict[str, str],
    killer: kernel.OomKiller | None = None,
) -> None:
    """Start runs, one after another, until process 1 is gone.

    `environment` has the variables that a run in an interpreter of its own begins with. No signal is taken here:
    a handler of the project's would change what later runs are forked from, at the wish of a run.
    """
    mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    blocked = [int(number) for number in mask]
    places = forking.places() if starts.forks else {}
    if starts.forks:
        from samovar.harness import ending, process  # not where every run starts an interpreter of its own

        ending.forget_imports()  # once, for every run: this process itself ends without any hook
        run: Run = process.main
    while True:
        order = control.order()
        if order is None:
            return
        asked, descriptors = order
        while _signal.sigtimedwait(_EVERY, 0) is not None:
            pass  # which signals wait, the next run could see
        if starts.fresh(asked):
            why = starts.notice if asked == AUTO else None
            notice = "\n".join(filter(None, [why, starts.unkept])) or None
            _attend(control, descriptors, fresh.spawn(settings, environment, descriptors, notice, blocked))
        else:
            if killer is not None:
                killer.offer()
            pid = _fork(control, killer, descriptors, starts.unkept, blocked, run)
            if killer is not None:
                killer.offer(False)
            _attend(control, descriptors, pid)
        if places:
            forking.put_back(places)


def _fork(
    control: Control,
    killer: kernel.OomKiller | None,
    descriptors: list[int],
    notice: str | None,
    mask: Iterable[int],
    run: Run,
) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        try:
            control.close()
            if killer is not None:
                killer.close()
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
            run(descriptors, None, notice)
        finally:
            os._exit(70)  # it does not return
    return pid


def _attend(control: Control, descriptors: list[int], pid: int) -> None:
    """Tells process 1 of a run's process, and how it ended."""
    for descriptor in descriptors:
        os.close(descriptor)
    control.began(pid)
    _, status, usage = os.wait4(pid, 0)
    control.exited(status, usage.ru_maxrss * 1024)
