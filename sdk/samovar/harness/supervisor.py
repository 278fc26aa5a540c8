"""Process 1 of a task container: holds the connection to the sidecar, and never runs user code.

It opens the connection before any user code exists, forks the zygote, and then serves one attempt after
another: assign → fork → forward checkpoints and output → end → finish → clean up → released. An end that has to
be judged by what is left (a death, a cancel) is cleaned up before its finish. It must stay small, because an idle
container is this and the zygote, and it must survive whatever the run's processes do.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress

from samovar import __version__, wire
from samovar.harness import bundle, cleanup, kernel
from samovar.harness.attempt import Attempt
from samovar.harness.container import Container
from samovar.harness.egress import Egress
from samovar.harness.ends import Ends
from samovar.harness.link import Link, LinkLost
from samovar.harness.logs import BATCH, LineSplitter
from samovar.harness.outcome import Evidence, clean_error, describe_status, exit_code, judge
from samovar.harness.settings import Settings
from samovar.harness.spare import Spare
from samovar.wire import Message

TYPE_CHECKING = False  # of `typing`, which process 1 would import for nothing else
if TYPE_CHECKING:
    from typing import Any, NoReturn

#: Seconds between collections of orphans while a run is busy.
_REAP = 1.0
#: Output of the project's modules at import that is kept for the first run's log.
_IMPORT_OUTPUT = 64 * 1024


class Supervisor:
    """The loop of process 1."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.link = Link(settings.socket, settings.disconnect_limit, self._hello)
        self.link.on_message = self._on_message
        #: Before any user code is there that could take its places.
        self.egress = Egress(settings.egress, settings.egress_socket)
        self.attempt: Attempt | None = None
        self.zygote = 0
        #: Wait status of the zygote once it has died.
        self.zygote_died: int | None = None
        self.ready = False
        #: Whether an attempt has been finished in this container.
        self.served = False
        self.import_error: dict[str, Any] | None = None
        #: Before there is any process but this.
        self._container = Container(settings)
        self._import_output = [("stderr", f"samovar: {text}\n".encode()) for text in self.egress.problems]
        self._import_bytes = 0
        self._splitters: dict[str, LineSplitter] = {}
        self._account: Message = {}
        self._reaped_at = 0.0
        #: Whether a run is to be ended of which it is not known yet which process it is.
        self._awaits_pid = False
        #: Whether nothing that the imports have made is shared by the runs forked from them.
        self._reusable = False

    # ------------------------------------------------------------ start

    def start(self) -> None:
        """Connect, then fork the zygote. Raises LinkLost."""
        self.link.greet()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pids, pids = os.pipe()
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        gc.freeze()  # the zygote's collector would touch, and so unshare, every page of what is here
        self.zygote = os.fork()
        if self.zygote == 0:
            self.link.close()
            self.egress.close()
            self._control.close()
            os.close(self._pids)
            self._become_zygote(theirs, pids, out_end, err_end)
        gc.enable()
        bundle.forget()
        kernel.trim()
        theirs.close()
        os.close(pids)
        os.set_blocking(self._pids, False)
        os.close(out_end)
        os.close(err_end)
        self._control.setblocking(False)
        self._spare = Spare(self._order, self._pids)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._control, selectors.EVENT_READ, self._on_zygote)
        for descriptor, stream, level in ((out, "stdout", "info"), (err, "stderr", "warning")):
            os.set_blocking(descriptor, False)
            self._splitters[stream] = LineSplitter(stream, level)
            self._selector.register(descriptor, selectors.EVENT_READ, self._reader(descriptor, stream))
        self.link.use(self._selector)
        self.egress.use(self._selector)

    def _become_zygote(self, orders: socket.socket, pids: int, out: int, err: int) -> NoReturn:
        code = 1
        try:
            from samovar.harness import zygote
            from samovar.harness.control import Control

            zygote.main(self.settings, Control(orders, pids), out, err)
            code = 0
        finally:
            os._exit(code)

    # ------------------------------------------------------------ the loop

    def serve(self) -> int:
        """Serve until the container is to end; the exit code."""
        while True:
            for key, mask in self._selector.select(self._timeout()):
                key.data(mask)
            if time.monotonic() >= self._reaped_at + _REAP:
                self._reaped_at = time.monotonic()
                self._note_deaths(cleanup.reap())
            if self.zygote_died is not None and not self.ready:
                text = f"importing the project's modules failed: the process {describe_status(self.zygote_died)}"
                self._become_ready(wire.error_body("ImportError", text))
            self.link.tick()
            self._spare.tick()
            if self.attempt is not None:
                self._advance(self.attempt)
            # where not even the imports worked, it stays to say so to the run that it was started for
            if self.attempt is None and self.zygote_died is not None and (self.served or self.import_error is None):
                return 1

    def _timeout(self) -> float | None:
        deadlines = [self.link.deadline(), self._spare.deadline]
        if self.attempt is not None:
            deadlines += [self.attempt.deadline(), self.attempt.kill_at, self.attempt.look_at]
            deadlines.append(self._reaped_at + _REAP)
        known = [deadline for deadline in deadlines if deadline is not None]
        return max(0.0, min(known) - time.monotonic()) if known else None

    def _advance(self, attempt: Attempt) -> None:
        if attempt.look_at is not None and time.monotonic() >= attempt.look_at:
            memory = self._container.held_memory()
            attempt.looked(memory)
            if self._container.is_near(memory) and attempt.looks_closer():
                attempt.saw(self._holders(attempt), self._container.memory_limit())
        if attempt.kill_at is not None and time.monotonic() >= attempt.kill_at:
            attempt.kill_at = None
            if attempt.cancel is None and not attempt.sealed:
                attempt.book.add(
                    "samovar",
                    "warning",
                    "the run's process did not end by itself, and was ended; its result is kept",
                )
            self._processes().kill()
        if attempt.ended and not attempt.sealed and attempt.status in (None, 0) and self.zygote_died is None:
            self._hand_over(attempt)
        over = (
            attempt.status is not None or self.zygote_died is not None or (attempt.cancel and not attempt.launched)
        )
        self._finish_if_settled(attempt)
        if over and not attempt.concluded:
            # when the end is on its way, where it is one that the run has said itself
            self._conclude(attempt)
            self._finish_if_settled(attempt)
            if attempt.finish_answered:
                self._let_go(attempt)

    def _holders(self, attempt: Attempt) -> Message:
        if attempt.pid is None and not self._awaits_pid:
            self._hear_pid()  # it is asked for only where somebody has to know
        return self._container.holders(attempt.pid)

    def _note_deaths(self, ended: dict[int, int]) -> None:
        for pid in ended:
            self.egress.ended(pid)
        if self.zygote in ended:
            self.zygote_died = ended[self.zygote]
            self.zygote = 0

    def _processes(self) -> cleanup.Processes:
        return self._container.processes(self.zygote)

    # ------------------------------------------------------------ the sidecar

    def _hello(self) -> Message:
        return {
            "type": wire.HELLO,
            "protocol": wire.PROTOCOL,
            "sdk": __version__,
            "python": ".".join(str(part) for part in sys.version_info[:3]),
            "attempt": self.attempt.id if self.attempt is not None and not self.attempt.finish_answered else None,
        }

    def _on_message(self, message: Message) -> None:
        if message.get("type") == wire.ASSIGN:
            if self.attempt is not None:
                if self.attempt.id != message.get("attempt"):
                    raise LinkLost(f"assigned {message.get('attempt')} while {self.attempt.id} is in progress")
                return  # said again after a reconnect
            message["run_socket"] = os.path.join(os.path.dirname(self.settings.socket), wire.RUN_SOCKET_NAME)
            self.attempt = Attempt(message, self.link, self._selector)
            if not self.served:
                self._container.forget_oom_kills()
            if self.ready:
                self._launch(self.attempt)
        elif message.get("type") == wire.CANCEL:
            self._cancel(message)

    def _cancel(self, message: Message) -> None:
        attempt = self.attempt
        if attempt is None or attempt.id != message.get("attempt") or attempt.cancel is not None or attempt.sealed:
            return
        attempt.cancel = message
        grace = message.get("grace")
        attempt.kill_at = time.monotonic() + (float(grace) if isinstance(grace, (int, float)) else 5.0)
        self._terminate(attempt)

    def _terminate(self, attempt: Attempt) -> None:
        self._hear_pid()
        if attempt.pid is None:
            if attempt.launched and not self._awaits_pid:  # it is told when the zygote says who it is
                self._awaits_pid = True
                self._selector.register(self._pids, selectors.EVENT_READ, lambda mask: self._on_pid(attempt))
            return
        try:
            os.killpg(attempt.pid, signal.SIGTERM)
        except ProcessLookupError:  # not yet the leader of its session
            with suppress(ProcessLookupError):
                os.kill(attempt.pid, signal.SIGTERM)

    # ------------------------------------------------------------ the zygote

    def _launch(self, attempt: Attempt) -> None:
        for stream, data in self._import_output:
            self._splitters[stream].feed(data, attempt.book)
        self._import_output, self._import_bytes = [], 0
        if self.import_error is not None:
            attempt.last_word = {"type": wire.ERROR, "error": self.import_error, "retry": {"allowed": False}}
            self._conclude(attempt)
            return
        self.egress.begin(lambda text: attempt.book.add("samovar", "warning", text))
        start = f"inline {attempt.start}" if attempt.inline else attempt.start
        ends = self._spare.take(start)
        if ends is None:
            ends = Ends()
            self._order(start, ends)
        attempt.open(ends)
        # all the rest while the process works, or is forked. Nothing that it says is passed on before this
        attempt.begin()
        self.link.request({"type": wire.STARTED, "attempt": attempt.id})

    def _order(self, start: str, ends: Ends) -> None:
        """Has the zygote begin a process."""
        with suppress(OSError):  # where the zygote is dead its end is about to be noted
            socket.send_fds(self._control, [start.encode()], ends.theirs)
        ends.given()

    def _on_zygote(self, mask: int) -> None:
        try:
            data = self._control.recv(256 * 1024)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(self._control)
            self._bury_zygote()
            return
        try:
            message = json.loads(data)
            self._hear_zygote(message)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            pass  # user code shares the zygote's memory, so nothing it says is worth dying for

    def _hear_zygote(self, message: Message) -> None:
        attempt = self.attempt
        if "ready" in message and not self.ready:
            self._reusable = message.get("kept") is True
            self._become_ready(message["ready"])
        elif "exited" in message:
            self._hear_exit(_within(message["exited"], 0, 0xFFFF), _within(message["peak"], 0, 1 << 62))
        elif "kept" in message and attempt is not None and attempt.launched and attempt.inline:
            self._hear_pid()
            attempt.peak, attempt.status, attempt.kept = _within(message["kept"], 0, 1 << 62), 0, True

    def _hear_exit(self, status: int, peak: int) -> None:
        attempt = self.attempt
        if attempt is None or not attempt.launched:
            self._spare.ended()
        elif not self._spare.settled:
            # it was told to begin before the run was, and so it has ended first
            if (pid := self._spare.ended()) is not None:
                attempt.pid = _within(pid, 2, 1 << 22)
        else:
            self._hear_pid()
            attempt.peak, attempt.status = peak, status

    def _on_pid(self, attempt: Attempt) -> None:
        if not self._spare.settled:
            return  # it is asked again at once: of the one that is leaving it is told in a moment
        self._forget_pid()
        if self._hear_pid() and not attempt.concluded:
            self._terminate(attempt)

    def _forget_pid(self) -> None:
        if self._awaits_pid:
            self._awaits_pid = False
            self._selector.unregister(self._pids)

    def _hear_pid(self) -> bool:
        """Which process the run is, where the zygote has said it by now; whether it has."""
        if not self._spare.settled:
            return False  # what it has said so far may be of another
        with suppress(OSError, ValueError):
            said = os.read(self._pids, BATCH).split()
            if self.attempt is not None and said:
                self.attempt.pid = _within(int(said[-1]), 2, 1 << 22)
                return True
        return False

    def _become_ready(self, error: dict[str, Any] | None) -> None:
        self.ready = True
        self.import_error = None if error is None else clean_error(error)
        self._container.begin(self.zygote)
        memory = self._container.memory()
        self.link.request({"type": wire.READY, "error": self.import_error, "memory": memory})
        if self.attempt is not None and not self.attempt.concluded:
            self._launch(self.attempt)
        elif self.import_error is None:
            self._spare.prepare("auto")

    def _bury_zygote(self) -> None:
        """The zygote's end of the control socket is closed: it is dead, or dying, or lost its mind."""
        deadline = time.monotonic() + 1.0
        while self.zygote and time.monotonic() < deadline:
            self._note_deaths(cleanup.reap())
            time.sleep(0.002)
        if self.zygote:
            os.kill(self.zygote, signal.SIGKILL)
            self.zygote_died = os.waitpid(self.zygote, 0)[1]
            self.zygote = 0

    def _reader(self, descriptor: int, stream: str) -> Any:
        def read(mask: int) -> None:
            try:
                data = os.read(descriptor, BATCH)
            except BlockingIOError:
                return
            if not data:
                self._selector.unregister(descriptor)
                os.close(descriptor)
            elif self.attempt is not None and self.attempt.launched and not self.attempt.sealed:
                self._splitters[stream].feed(data, self.attempt.book)
            elif self._import_bytes < _IMPORT_OUTPUT:
                self._import_output.append((stream, data))
                self._import_bytes += len(data)

        return read

    # ------------------------------------------------------------ the end of an attempt

    def _hand_over(self, attempt: Attempt) -> None:
        """The run has said its end and that nothing comes any more: that can go before anything is cleaned up.

        Not where the kernel has killed something for want of memory: what became of that is to be seen first.
        """
        if self._container.oom_kills():
            attempt.ended = False
            return
        self.egress.end()
        attempt.take_what_is_there()
        attempt.peak = self._container.peak(attempt.peak)

    def _conclude(self, attempt: Attempt) -> None:
        """Nothing of the run stays: its last words are read, its processes killed, its scratch wiped."""
        self._forget_pid()
        self.egress.end()
        kept = attempt.pid if attempt.kept and attempt.cancel is None else None
        if self._container.oom_kills():
            # before it is wiped: what was written to scratch is what most often nobody thinks of
            attempt.saw(self._holders(attempt), killed=True)
        processes = self._container.processes(self.zygote, kept or 0)
        exited = attempt.status is not None and os.WIFEXITED(attempt.status)
        if exited and attempt.cancel is None:
            processes.wait_for_leaving()
        if not attempt.sealed:
            attempt.peak = self._container.peak(attempt.peak)
        killed, gone = processes.kill()
        self._note_deaths(processes.ended)
        self.egress.settle()
        if not attempt.sealed:
            attempt.drain()
        attempt.kill_at = None
        attempt.concluded = True
        well = exited and attempt.cancel is None and gone and self._reusable
        self._account = self._container.leave(well=well, killed=killed)
        if self._account["oom_kills"]:
            attempt.peak = self._container.peak(attempt.peak, self._account["oom_kills"])
            attempt.died_of(attempt.peak)

    def _finish_if_settled(self, attempt: Attempt) -> None:
        attempt.tick()
        if attempt.sealed and attempt.settled and not attempt.finish_sent:
            self._finish(attempt)

    def _finish(self, attempt: Attempt) -> None:
        cancel = attempt.cancel or {}
        # what several processes of a run have had together is seen nowhere else
        attempt.peak = max(attempt.peak, attempt.highest)
        oom_kills = self._account["oom_kills"] if attempt.concluded else 0
        verdict = judge(
            Evidence(
                last_word=attempt.last_word,
                status=attempt.status,
                cancel=cancel.get("reason"),
                cancel_message=cancel.get("message"),
                word_before_cancel=attempt.word_before_cancel,
                oom_kills=oom_kills,
                memory_limit=self._container.memory_limit() if oom_kills else 0,
                peak=attempt.peak,
                zygote_died=self.zygote_died,
            )
        )
        message: Message = {
            "type": wire.FINISH,
            "attempt": attempt.id,
            "usage": {"peak_memory_bytes": attempt.peak or None, "exit_code": 0},
            "container": None,
        }
        if attempt.curve is not None:
            message["usage"]["curve"] = attempt.curve.told()
        if attempt.concluded:
            message["usage"]["exit_code"] = exit_code(attempt.status)
            message["container"] = self._account
        attempt.owes_release = not attempt.concluded
        message |= {
            "dropped": attempt.book.dropped,
            "lines": attempt.book.take(),
            # what may be long comes last: a sidecar does not look into it
            **{name: value for name, value in verdict.items() if name not in wire.LONG},
            **{name: verdict[name] for name in wire.LONG if name in verdict},
        }
        attempt.finish_sent = True
        self.link.request(message, self._finished)

    def _finished(self, reply: Message) -> None:
        # refused as well as granted: a refusal says that the attempt is no longer ours
        if (attempt := self.attempt) is None:
            return
        attempt.finish_answered = True
        if attempt.concluded:  # now: the next assignment may be right behind this answer
            self._let_go(attempt)

    def _let_go(self, attempt: Attempt) -> None:
        """Nothing of the attempt is left, and its end is known: another one may come."""
        self.attempt = None
        self.served = True
        if attempt.owes_release:
            code = exit_code(attempt.status)
            self.link.request(
                {"type": wire.RELEASED, "attempt": attempt.id, "exit_code": code, "container": self._account}
            )
        self._spare.prepare(attempt.start if self._account["clean"] and not attempt.inline else None)


def _within(number: Any, least: int, most: int) -> int:
    """A number that the zygote has said. Raises ValueError where it can't be what it is said to be."""
    if not isinstance(number, int) or not least <= number <= most:
        raise ValueError(f"{number!r:.50} is not between {least} and {most}")
    return number


def main() -> int:
    """Run process 1; its exit code: 1 the zygote died, 2 the sidecar is gone."""
    kernel.set_dumpable(False)
    kernel.become_subreaper()
    supervisor = Supervisor(Settings(os.environ, os.getpid() == 1))
    try:
        supervisor.start()
        return supervisor.serve()
    except (LinkLost, wire.ProtocolError) as error:
        print(f"samovar: {error}", file=sys.stderr)
        if supervisor.zygote:
            supervisor._processes().kill()
            os.kill(supervisor.zygote, signal.SIGKILL)
        return 2
