"""The zygote: has the project's modules imported, and forks a process for each run.

Heavy imports cost once per container, and every run starts with the globals as the imports left them. It
runs the project's code, so process 1 believes it nothing of consequence. It says, over a datagram socket:
`{"ready": null | error}`, then for each run `{"forked": pid}` and `{"exited": status, "peak": bytes}`.
"""

from __future__ import annotations

import faulthandler
import gc
import io
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

from samovar.harness import kernel, output, records
from samovar.harness.settings import Settings

_LONGEST_ERROR = 16 * 1024


def main(settings: Settings, control: socket.socket, out: int, err: int) -> None:
    """Import, then fork until process 1 is gone."""
    kernel.die_with_parent(signal.SIGKILL)
    _take_output(out, err)
    _close_others(control.fileno())
    faulthandler.enable(2)  # a segmentation fault leaves its Python stack in the log, in runs as well
    _say(control, {"ready": _import(settings)})
    gc.collect()
    gc.freeze()  # what is here now is shared with every run; the collector need not touch its pages
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, 64, 3, socket.MSG_CMSG_CLOEXEC)
        if not data:
            return
        _run(control, descriptors, settings)


def _run(control: socket.socket, descriptors: list[int], settings: Settings) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        try:
            control.close()
            from samovar.harness import process

            process.main(settings, *descriptors)
        finally:
            os._exit(70)  # process.main does not return
    for descriptor in descriptors:
        os.close(descriptor)
    _say(control, {"forked": pid})
    _, status, usage = os.wait4(pid, 0)
    _say(control, {"exited": status, "peak": usage.ru_maxrss * 1024})


def _prepare_runs() -> None:
    """Load here, once, what each run would otherwise load for itself."""
    import samovar.codec
    import samovar.context
    import samovar.options
    import samovar.tracebacks  # noqa: F401
    from samovar.errors import OptionError
    from samovar.tasks import registry

    for tasks in registry.values():
        with suppress(OptionError):  # said to whoever runs that task; the others are none the worse
            _ = tasks[0].signature
        if tasks[0].is_async:
            import asyncio  # noqa: F401


def _say(control: socket.socket, message: dict[str, Any]) -> None:
    try:
        control.send(json.dumps(message).encode())
    except OSError:
        os._exit(0)  # process 1 is gone


def _take_output(out: int, err: int) -> None:
    """Stdout and stderr to process 1, as UTF-8 whatever the locale, a line at a time."""
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (out, 1), (err, 2)):
        os.dup2(source, target)
    # line by line, so that a crash loses no line; objects that modules keep of these go on working in runs
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), "utf-8")
    sys.stdout, sys.stderr = output.text(1, "stdout"), output.text(2, "stderr")
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]


def _close_others(keep: int) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != keep:
            with suppress(OSError):  # the descriptor of this very listing is closed by now
                os.close(int(name))


def _import(settings: Settings) -> dict[str, Any] | None:
    """Import the project's modules; the error, in the wire's shape, where they can't be."""
    import site

    import samovar.harness.process  # noqa: F401 - once, for every run
    from samovar.index import CannotIndex, import_modules, read_manifest

    if sys.flags.no_site:
        site.main()  # only here: what .pth files and sitecustomize do has no place in process 1
    records.capture()
    error = None
    try:
        modules = read_manifest(settings.manifest)["modules"]
        sys.path.insert(0, settings.code)
        import_modules(modules)
        _prepare_runs()
    except CannotIndex as failure:
        text = str(failure)
        error = {"type": "ImportError", "message": text.split("\n\n")[0], "traceback": text, "reason": "exception"}
    except BaseException as failure:  # KeyboardInterrupt and the like, raised by a module
        text = f"importing the project's modules was ended by {failure!r}"
        error = {"type": "ImportError", "message": text, "traceback": text, "reason": "exception"}
    sys.stdout.flush()
    sys.stderr.flush()
    kernel.set_dumpable(False)
    return error and {name: value[-_LONGEST_ERROR:] for name, value in error.items()}
