"""The zygote: has the project's modules imported, and forks a process for each run.

Heavy imports cost once per container, and every run starts with the globals as the imports left them. It
runs the project's code, so process 1 believes it nothing of consequence. It says, over a datagram socket:
`{"ready": null | error, "kept": whether there may be a second run}`, then for each run `{"exited": status, "peak":
bytes}`; the process id of each goes into a pipe.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
from contextlib import suppress
from typing import Any

from samovar.environment.starts import FORK, fresh_notice, unkept_notice, unshared
from samovar.environment.variables import Reads
from samovar.harness import bundle, kernel, output, records, spawner
from samovar.harness.control import Control
from samovar.harness.settings import Settings

_LONGEST_ERROR = 16 * 1024


def main(settings: Settings, control: Control, out: int, err: int) -> None:
    """Import, then fork until process 1 is gone."""
    kernel.die_with_parent(signal.SIGKILL)
    _take_output(out, err)
    _close_others(control.descriptors())
    kernel.set_dumpable(True)
    killer = kernel.OomKiller()
    kernel.set_dumpable(False)
    faulthandler.enable(2)  # a segmentation fault leaves its Python stack in the log, in runs as well
    environment = dict(os.environ)  # as it was given: user code may change it
    error, starts = _import(settings)
    control.say({"ready": error, "kept": starts.unkept is None})
    if error is None and starts.notice is not None and not starts.forks:
        spawner.become(settings, control, starts.notice, environment)
    gc.collect()
    kernel.trim()
    gc.freeze()  # what is here now is shared with every run; the collector need not touch its pages
    spawner.Spawner(control, settings, starts, environment, killer).serve()


def _prepare_runs() -> None:
    """Load here, once, what each run would otherwise load for itself."""
    from samovar.declare.registry import registry
    from samovar.errors import OptionError
    from samovar.payloads.binding import prepare

    for tasks in registry.values():
        with suppress(OptionError):  # said to whoever runs that task; the others are none the worse
            prepare(tasks[0])
        if tasks[0].is_async:
            import asyncio  # noqa: F401


def _take_output(out: int, err: int) -> None:
    """Stdout and stderr to process 1, as UTF-8 whatever the locale, a line at a time."""
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (out, 1), (err, 2)):
        os.dup2(source, target)
    output.install()


def _close_others(keep: list[int]) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in keep:
            with suppress(OSError):  # the descriptor of this very listing is closed by now
                os.close(int(name))


def _import(settings: Settings) -> tuple[dict[str, Any] | None, spawner.Starts]:
    """Import the project's modules; the error, in the wire's shape, where they can't be; and how runs begin."""
    # once, for every run
    import importlib  # noqa: F401 (of the bundle, as long as there is one)
    import site

    import samovar.harness.ending
    import samovar.harness.process
    import samovar.tasks
    import samovar.values.hints  # noqa: F401
    from samovar.environment import forking, generators, interpreter, variables
    from samovar.environment.modules import CannotIndex, import_modules, read_manifest

    bundle.keep_own()
    gc.enable()

    if sys.flags.no_site:
        site.main()  # only here: what .pth files and sitecustomize do has no place in process 1
    records.capture()
    error, starts = None, spawner.Starts()
    try:
        manifest = read_manifest(settings.manifest)
        known = forking.descriptors()
        interpreter.prepare(settings.code, manifest)
        with generators.watching(), variables.watching() as reads:
            try:
                import_modules(manifest["modules"])
            except CannotIndex:
                secrets = variables.secret_names(settings.code, manifest["defaults"])
                if not (secrets and (reads.all or secrets & reads.missing)):
                    raise
                # with its secrets, which only a run has, the import may work as it did with placeholders
                starts = spawner.Starts(fresh_notice(reads.of(secrets)), forks=False)
        if starts.notice is None:
            generators.find()
            carried = forking.carried(known)
            culprits = forking.culprits(carried, settings.code)
            starts = _decide(culprits, carried, reads, manifest["defaults"])
            _prepare_runs()
    except CannotIndex as failure:
        text = str(failure)
        error = {"type": "ImportError", "message": text.split("\n\n")[0], "traceback": text, "reason": "exception"}
    except BaseException as failure:  # KeyboardInterrupt and the like, raised by a module
        text = f"importing the project's modules was ended by {failure!r}"
        error = {"type": "ImportError", "message": text, "traceback": text, "reason": "exception"}
    bundle.forget()
    sys.stdout.flush()
    sys.stderr.flush()
    kernel.set_dumpable(False)
    return error and {name: value[-_LONGEST_ERROR:] for name, value in error.items()}, starts


def _decide(culprits: list[str], carried: list[str], reads: Reads, defaults: dict[str, Any]) -> spawner.Starts:
    """How runs begin, by what the imports have made, and whether there is more than one."""
    from samovar.declare.registry import registry

    options = [{**defaults, **task.options} for tasks in registry.values() for task in tasks]
    secrets = {name for given in options for name in given.get("secrets") or ()}
    culprits = [*culprits, *reads.of(secrets)]
    if not culprits:
        return spawner.Starts()
    forks = any(given.get("start") == FORK for given in options)
    unkept = unkept_notice(carried) if carried and unshared(options) else None
    return spawner.Starts(fresh_notice(culprits), forks, unkept)
