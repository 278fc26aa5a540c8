"""Process 1's part in what a run reaches: it listens on loopback, and has a relay see to what connects.

Where the sidecar can listen in the container itself (see places.py), process 1 only sees to it that no connection
waits for the next run. Else nothing is there until something connects: process 1 holds listeners, and on the first
connection of a run forks the relay (see relay.py), which takes them over. With the run the relay ends, and every
connection with it; the listeners come back. Between runs whatever connects is turned away.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
from collections.abc import Callable
from contextlib import suppress

from samovar.harness.listeners import BACKLOG, Listener, reset
from samovar.harness.places import Places, hand_over
from samovar.wire import PLACES_NAME

TYPE_CHECKING = False  # of `typing`, which process 1 would import for nothing else
if TYPE_CHECKING:
    from typing import Any, NoReturn

#: What the relay has to say of one run, in bytes: more is not read.
_MOST_NOTES = 64 * 1024


class Egress:
    """Listeners, and the relay of the run in progress. Without SAMOVAR_EGRESS there is neither."""

    def __init__(self, told: str, path: str) -> None:
        """`told`: JSON, `{"proxy": "address:port" | null, "relays": [[address, port, name], ...]}` and more.

        `path`: of the sidecar's socket for what leads out.
        """
        self.listeners: list[Listener] = []
        #: Those at which the sidecar listens, as long as it does; there are no listeners then.
        self.places: Places | None = None
        #: Where it can't listen, in words: where the kernel gives the first ports to root alone.
        self.problems: list[str] = []
        #: Process id of the relay; 0: there is none.
        self.relay = 0
        self._path = path
        self._selector: selectors.BaseSelector | None = None
        self._tell: Callable[[str], Any] | None = None
        self._notes = -1
        self._heard = b""
        self._said = 0
        self._wanted: list[tuple[str, int, str | None]] = []
        if told:
            given = json.loads(told)
            if given["proxy"]:
                address, _, port = given["proxy"].rpartition(":")
                self._wanted.append((address, int(port), None))
            self._wanted += [(address, port, name) for address, port, name in given["relays"]]
        if self._wanted:
            self.places = hand_over(os.path.join(os.path.dirname(path), PLACES_NAME), self._wanted)
            if self.places is None:
                self._listen()

    def close(self) -> None:
        """In a process that has no part in it."""
        if self.places is not None:
            self.places.close()
        for listener in self.listeners:
            listener.socket.close()

    def use(self, selector: selectors.BaseSelector) -> None:
        """Have the loop watch the listeners, or that the sidecar has them."""
        self._selector = selector
        self._watch()
        if self.places is not None:
            selector.register(self.places.line, selectors.EVENT_READ, self._on_places)

    def begin(self, tell: Callable[[str], Any]) -> None:
        """A run begins: what connects from now on is its own. `tell` takes lines for its log."""
        self._turn_away()
        self._tell, self._said, self._heard = tell, 0, b""

    def end(self) -> None:
        """The run's connections end, and the relay with them. It is ended before what else is left of the run."""
        if self._tell is None:
            return
        self._bury()
        self._tell = None

    def settle(self) -> None:
        """Nothing of the run is left: what it has connected last is turned away."""
        if self.places is not None and not self.places.settle():
            self._take_back()
        self._turn_away()

    def ended(self, pid: int) -> None:
        """A process has ended. Where it was the relay, the next connection gets another one."""
        if not pid or pid != self.relay:
            return
        self.relay = 0
        self._hear()
        if self._notes >= 0:
            self._close_notes()
        self._watch()

    # ------------------------------------------------------------

    def _listen(self) -> None:
        for address, port, name in self._wanted:
            try:
                self.listeners.append(Listener(address, port, name))
            except OSError as error:
                text = f"{name or 'the proxy'}:{port} is not reached: {error.strerror} at {address}"
                self.problems.append(text)

    def _on_places(self, mask: int) -> None:
        if self.places is not None and self.places.lost():
            self._take_back()

    def _take_back(self) -> None:
        """The sidecar listens no longer, as when it has begun anew: process 1 does, and its relay carries."""
        assert self.places is not None
        assert self._selector is not None
        self._selector.unregister(self.places.line)
        self.places.close()
        self.places = None
        said = len(self.problems)
        self._listen()
        self._watch()
        for text in self.problems[said:]:
            self._say(text)

    def _watch(self) -> None:
        if self._selector is not None:
            for listener in self.listeners:
                self._selector.register(listener.socket, selectors.EVENT_READ, self._on_connection)

    def _on_connection(self, mask: int) -> None:
        if self._tell is None:
            self._turn_away()
        elif not self.relay:
            try:
                self._fork()
            except OSError as error:
                self._turn_away()
                self._say(f"no process could be started for what the run reaches: {error.strerror}")

    def _fork(self) -> None:
        notes, theirs = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            os.close(notes)
            os.close(theirs)
            raise
        if pid == 0:
            self._become_relay(theirs)
        os.close(theirs)
        os.set_blocking(notes, False)
        self.relay, self._notes = pid, notes
        assert self._selector is not None
        for listener in self.listeners:
            self._selector.unregister(listener.socket)
        self._selector.register(notes, selectors.EVENT_READ, lambda mask: self._hear())

    def _become_relay(self, notes: int) -> NoReturn:
        try:
            # only here: an idle container has none of it in memory
            from samovar.harness import relay

            relay.main(self.listeners, self._path, notes)
        finally:
            os._exit(1)

    def _turn_away(self) -> None:
        for listener in self.listeners:
            for _ in range(2 * BACKLOG):  # one that goes on connecting is not to hold up process 1
                try:
                    connection, _ = listener.socket.accept()
                except OSError:
                    break
                reset(connection)

    def _bury(self) -> None:
        if not self.relay:
            return
        with suppress(ProcessLookupError):
            os.kill(self.relay, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.relay, 0)
        self.ended(self.relay)

    def _hear(self) -> None:
        """Lines of the relay, for the run's log."""
        while self._notes >= 0:
            try:
                data = os.read(self._notes, 4096)
            except BlockingIOError:
                return
            if not data:  # its end is gone with it, a moment before its status is there
                self._close_notes()
                self._bury()
                return
            *lines, self._heard = (self._heard + data).split(b"\n")
            for line in lines:
                self._say(line.decode("utf-8", "replace"))

    def _say(self, text: str) -> None:
        self._said += len(text)
        if self._tell is not None and self._said <= _MOST_NOTES:
            self._tell(text)

    def _close_notes(self) -> None:
        if self._selector is not None:
            self._selector.unregister(self._notes)
        os.close(self._notes)
        self._notes = -1
