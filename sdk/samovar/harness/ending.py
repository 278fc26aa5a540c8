"""The end of a run's process, after its last word: what still wants to be done gets a little time, and no say.

The result is with process 1 by now. What raises here is a line of the log; what doesn't end is left where it is,
and named. Process 1 ends the process where not even that works (a handler that is stuck in C, say).
"""

from __future__ import annotations

import atexit
import functools
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable

from samovar.harness import output
from samovar.values import tracebacks

if TYPE_CHECKING:  # it is imported where the project imports it
    import logging

#: Seconds for all of it, and for the threads that are waited for first.
SECONDS = 2.0
_FOR_THREADS = 1.0


class _Late(BaseException):
    """The time is over."""


def forget_imports() -> None:
    """What is to be done at the end of a process that has imported the project is not for a fork of it to do.

    A hook of an import would take away what the next run needs as well, such as a temporary folder. Called before
    the forks, and in each, for what a thread has added since.
    """
    finalize = getattr(sys.modules.get("weakref"), "finalize", None)
    if not atexit._ncallbacks() and not (finalize and finalize._registered_with_atexit):
        return
    atexit._clear()
    if finalize:
        for info in list(finalize._registry.values()):
            info.atexit = False
        finalize._registered_with_atexit = False


def is_due(*, kept: bool = False) -> bool:
    """Whether anything is left to be done. What Python has yet to write out is written here where it is not.

    `kept`: the process goes on with other runs, and its threads with it.
    """
    try:
        return _is_due(kept)
    except BaseException:  # of a signal's handler that the task has left: it must not cost the result
        return True


def _is_due(kept: bool) -> bool:
    handlers, last = _handlers()
    exits, executors = sys.modules.get("samovar.running.exits"), sys.modules.get("concurrent.futures.thread")
    of_process = not kept and (
        threading.active_count() > 1
        or (executors is not None and executors._threads_queues)
        or len(threading._threading_atexits) > (executors is not None)  # type: ignore[attr-defined]
        or atexit._ncallbacks()
        or "multiprocessing.util" in sys.modules
    )
    if (
        of_process
        or (exits is not None and exits.given())
        or any(reference() is not last for reference in handlers)
        or not (output.is_ours(sys.stdout) and output.is_ours(sys.stderr))
    ):
        return True
    sys.stdout.flush()
    sys.stderr.flush()
    return False


def end(say: Callable[[str], None], *, kept: bool = False) -> None:
    """Does what is left to be done; `say` adds a line to the run's log. `kept`: what belongs to the end of a run
    alone, not to that of a process.
    """
    signal.signal(signal.SIGALRM, _on_alarm)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    sys.unraisablehook = _on_unraisable
    deadline = time.monotonic() + SECONDS
    steps = _Steps(say, deadline)
    exits = sys.modules.get("samovar.running.exits")
    for function in exits.take() if exits is not None else ():
        steps.do(f"the function {_name(function)}, given to on_exit", function)
    if not kept:
        _end_process(steps)
    for reference in reversed(_handlers()[0]):
        handler = reference()
        if handler is not None:
            what = functools.partial("the log handler {!r:.200}".format, handler)
            steps.do(what, handler.flush if kept else functools.partial(_close, handler))
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name, None)
        steps.do(f"sys.{name}", functools.partial(_flush, stream))
    steps.over()


def _end_process(steps: _Steps) -> None:
    if threading.active_count() > 1 or "concurrent.futures.thread" in sys.modules:
        steps.do(_threads, threading._shutdown, seconds=_FOR_THREADS)  # type: ignore[attr-defined]
    if atexit._ncallbacks():
        steps.do("a function that atexit was given", atexit._run_exitfuncs)
    processes = sys.modules.get("multiprocessing.util")
    if processes is not None:
        steps.do("the end of multiprocessing", processes._exit_function)


#: Whether the alarm has rung in this step: what it raises may be caught on its way, as `atexit` does.
_rang: list[bool] = []


class _Steps:
    """One after another, until the time is over."""

    def __init__(self, say: Callable[[str], None], deadline: float) -> None:
        self._say, self._deadline = say, deadline
        self._late: list[str] = []

    def do(self, what: str | Callable[[], str], step: Callable[[], Any], seconds: float | None = None) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            return
        _rang.clear()
        try:
            signal.setitimer(signal.ITIMER_REAL, min(left, seconds or left), 0.05)
            try:
                step()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except _Late:
            pass
        except BaseException as error:
            name = what if isinstance(what, str) else what()
            self._say(f"{name} failed at the end of the run:\n{tracebacks.format_exception(error)}")
        if _rang:
            self._late.append(what if isinstance(what, str) else what())

    def over(self) -> None:
        if self._late:
            self._say(
                f"at the end of the run, {'; '.join(self._late)} took longer than the time there is for it "
                f"({SECONDS:g} s for all); the result is kept, and what was under way is not waited for"
            )


def _on_alarm(number: int, frame: Any) -> None:
    _rang.append(True)
    raise _Late


def _on_unraisable(unraisable: Any) -> None:
    if not isinstance(unraisable.exc_value, _Late):
        sys.__unraisablehook__(unraisable)


def _threads() -> str:
    left = [t.name for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon]
    return f"the thread{'s' if len(left) > 1 else ''} {', '.join(map(repr, left[:5])) or 'of a pool'}"


def _handlers() -> tuple[list[Any], Any]:
    """References to all that `logging` has, and its last resort, which needs no end."""
    module = sys.modules.get("logging")
    return list(getattr(module, "_handlerList", ())), getattr(module, "lastResort", None)


def _close(handler: logging.Handler) -> None:
    handler.flush()
    handler.close()


def _flush(stream: Any) -> None:
    with suppress(OSError, ValueError, AttributeError):  # the task may have closed or replaced it
        stream.flush()


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", None) or repr(function)[:200])
