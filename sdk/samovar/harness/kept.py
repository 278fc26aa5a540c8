"""The kept process of `isolation="inline"`: it runs one task after the other, and its globals stay.

Forked from the zygote, or an interpreter of its own where a fork would not do, at the first run; it ends with the
container, or with a run that crashes, is canceled or runs out of time. What belongs to a run is new in each: the
socket to process 1, standard output, the variables, the secrets, the working folder, the context. What the project
has made (globals, threads, caches) is left as it is.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import array
import contextvars
import os
import signal
import socket
import sys
from typing import Any, Callable, NoReturn

from samovar import wire
from samovar.harness import ending, output, process, records
from samovar.harness.keeping import LONGEST, ROOM
from samovar.running import exits, secrets
from samovar.running.run import leave_process_run


def main(channel: socket.socket, load: Callable[[], None] | None = None) -> NoReturn:
    """Run tasks until the zygote is gone. `load` imports the project, in a process that is no fork."""
    process.become(forked=load is None)
    _Runs(channel, load).serve()


class _Runs:
    def __init__(self, channel: socket.socket, load: Callable[[], None] | None) -> None:
        self._channel = channel
        self._load = load
        self._null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        if load is None:
            self._remember()

    def _remember(self) -> None:
        """What each run finds: as the imports have left it."""
        self._variables = dict(os.environ)
        self._folder = os.getcwd()
        self._mask = os.umask(0o22)
        os.umask(self._mask)
        self._blocked = [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())]
        self._streams = sys.stdin, sys.stdout, sys.stderr
        self._exits = exits.known()
        self._context = contextvars.copy_context()

    def serve(self) -> NoReturn:
        while True:
            data, carried, _, _ = self._channel.recvmsg(LONGEST, ROOM, socket.MSG_CMSG_CLOEXEC)
            if not data:
                os._exit(0)
            descriptors = array.array("i", b"".join(piece for _, _, piece in carried)).tolist()
            self._run(descriptors, data[1:].decode("utf-8", "replace") or None)
            self._channel.send(b"%d" % process.peak())

    def _run(self, descriptors: list[int], notice: str | None) -> None:
        """One run, to its end. Does not return where the process is not to be kept."""
        store = process.attach(descriptors)
        if self._load is None:
            word = self._context.copy().run(process.run, store, None, notice)
        else:
            word = self._first(store, notice)
        if not store.owned:
            os._exit(0 if word["type"] == wire.RESULT else 1)  # a fork of the task that ran on to here
        _signal.signal(_signal.SIGTERM, _signal.SIG_IGN)
        try:
            if ending.is_due(kept=True):
                store.send(word)
                ending.end(process.say, kept=True)
                store.send(process.ended())
            else:
                store.send(word, process.ended())
        except BaseException:
            os._exit(1)
        if process.was_terminated() or self._load is not None:
            os._exit(0)  # canceled, and process 1 waits for it; or the project could not be imported
        self._restore()
        store.close()

    def _first(self, store: Any, notice: str | None) -> wire.Message:
        """The run in which the project is imported, by a process that is no fork."""
        load, given = self._load, dict(os.environ)
        assert load is not None

        def loading() -> None:
            before = dict(os.environ)
            load()
            # of what the run has been given for itself, the next one finds what was there before it
            own = {name for name in before if given.get(name) != before[name]}
            kept = {name: value for name, value in os.environ.items() if name not in own}
            self._load = None
            self._remember()
            self._variables = kept | {name: given[name] for name in own if name in given}

        return contextvars.copy_context().run(process.run, store, loading, notice)

    def _restore(self) -> None:
        """Nothing of a run is left that is not the project's own."""
        output.detach()
        records.detach()
        for number in (1, 2):
            os.dup2(self._null, number)
        leave_process_run()
        secrets.enter({})
        if dict(os.environ) != self._variables:
            for name in set(os.environ) - set(self._variables):
                del os.environ[name]
            os.environ.update(self._variables)
        os.chdir(self._folder)
        os.umask(self._mask)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self._blocked)
        _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)  # one that comes late ends it: its run is over
        sys.stdin, sys.stdout, sys.stderr = self._streams
        exits.put_back(self._exits)
