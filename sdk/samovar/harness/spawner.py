"""Starting runs, one after another; and what the zygote becomes where none may be forked from it.

A process without the project, which keeps the zygote's process id and its socket to process 1, and gives back the
memory of the imports, with whatever threads and connections they had made.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Callable, NoReturn

from samovar.environment import forking
from samovar.environment.interpreter import SDK
from samovar.environment.starts import AUTO, FORK, FRESH
from samovar.harness import fresh, kernel
from samovar.harness.control import Control
from samovar.harness.keeping import Kept
from samovar.harness.settings import Settings

#: Every signal, as plain numbers: what `signal` puts on top makes an enum of each, in every run.
_EVERY = [int(number) for number in signal.valid_signals()]
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
    Spawner(control, Settings.described(described), starts, dict(os.environ)).serve()


class Spawner:
    """Starts runs, one after another, until process 1 is gone."""

    def __init__(
        self,
        control: Control,
        settings: Settings,
        starts: Starts,
        environment: dict[str, str],
        killer: kernel.OomKiller | None = None,
    ) -> None:
        """`environment` has the variables that a run in an interpreter of its own begins with."""
        self._control = control
        self._settings = settings
        self._starts = starts
        self._environment = environment
        self._killer = killer
        #: The signals that a run blocks.
        self._mask: list[int] = []
        self._kept: Kept | None = None

    def serve(self) -> None:
        """No signal is taken here: a handler of the project's would change what later runs are forked from, at the
        wish of a run.
        """
        mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        self._mask = [int(number) for number in mask]
        places = forking.places() if self._starts.forks else {}
        if self._starts.forks:
            from samovar.harness import ending

            ending.forget_imports()  # once, for every run: this process itself ends without any hook
        while (order := self._control.order()) is not None:
            while _signal.sigtimedwait(_EVERY, 0) is not None:
                pass  # which signals wait, the next run could see
            asked, descriptors = order
            inline, _, asked = asked.rpartition(" ")
            if self._kept is not None and not (inline and self._kept.lives()):
                self._kept.bury()
                self._kept = None
            if inline:
                self._run_inline(asked, descriptors)
            else:
                self._run(asked, descriptors)
            if places:
                forking.put_back(places)

    def _run(self, asked: str, descriptors: list[int]) -> None:
        """In a process of its own."""
        notice = self._notice(asked)
        if self._starts.fresh(asked):
            pid = fresh.spawn(self._settings, self._environment, descriptors, notice, self._mask)
        else:
            from samovar.harness import process

            pid = self._fork(lambda: process.main(descriptors, None, notice))
        self._began(descriptors, pid)
        _, status, usage = os.wait4(pid, 0)
        self._control.exited(status, usage.ru_maxrss * 1024)

    def _run_inline(self, asked: str, descriptors: list[int]) -> None:
        """In the process that is kept, which is made where there is none."""
        if self._kept is None:
            self._kept = Kept(lambda theirs, ours: self._start_kept(asked, theirs, ours))
        self._kept.run(descriptors, self._starts.unkept)
        self._began(descriptors, self._kept.pid)
        peak = self._kept.peak()
        if peak is not None:
            self._control.kept(peak)
            return
        status, peak = self._kept.bury()
        self._kept = None
        self._control.exited(status, peak)

    def _start_kept(self, asked: str, theirs: socket.socket, ours: socket.socket) -> int:
        if self._starts.fresh(asked):
            return fresh.spawn_kept(self._settings, self._environment, theirs, self._mask)
        from samovar.harness import kept

        def become() -> NoReturn:
            ours.close()
            kept.main(theirs)

        return self._fork(become)

    def _notice(self, asked: str) -> str | None:
        """For the log of a run that begins a process."""
        why = self._starts.notice if asked == AUTO and self._starts.fresh(asked) else None
        return "\n".join(filter(None, [why, self._starts.unkept])) or None

    def _began(self, descriptors: list[int], pid: int) -> None:
        for descriptor in descriptors:
            os.close(descriptor)
        self._control.began(pid)

    def _fork(self, become: Callable[[], NoReturn]) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        if self._killer is not None:
            self._killer.offer()
        pid = os.fork()
        if pid == 0:
            try:
                self._control.close()
                if self._killer is not None:
                    self._killer.close()
                _signal.pthread_sigmask(_signal.SIG_SETMASK, self._mask)
                become()
            finally:
                os._exit(70)  # it does not return
        if self._killer is not None:
            self._killer.offer(False)
        return pid
