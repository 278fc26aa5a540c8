"""A process of one build's own, in which all that a project wrote is read: its archive, its tables, its locks.

What is read is bounded by what it may unpack to, and not by what a parser makes of it: a lock file of some
megabytes can take a processor for minutes and memory by the gigabyte. So what parses runs here, under limits of the
operating system, and the runner goes on renewing the leases of everybody's runs meanwhile.
"""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar

from coordinator.confined import PROJECTS
from images.errors import BuildError, SourceError
from images.settings import ImageSettings

P = ParamSpec("P")
T = TypeVar("T")

_LENGTH = 8


class Reader:
    """One build's reader: `call` runs a function of this part in it. One call at a time; `close` at the end."""

    def __init__(self, settings: ImageSettings) -> None:
        self._settings = settings
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "images.reading",
                str(settings.reading_memory),
                str(math.ceil(settings.reading_timeout)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # what it says when it dies of its limits is of no use to anybody
            stderr=subprocess.DEVNULL,
            # no key, no variable of the operator's; pip's and certificates' are the builders'
            env={name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ},
            cwd="/",
        )

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`function(*args)`, in the other process. Raises what it raises, and SourceError at a limit."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(self._settings.reading_timeout, process.kill)
        timer.start()
        try:
            _send(process.stdin, (function, args, kwargs))
            good, value = _receive(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            raise SourceError(
                f"reading the project takes more than {self._settings.reading_memory // 1024**2} MiB of memory or "
                f"{self._settings.reading_timeout:g} s; a lock file or samovar.toml of it is too large, or is made "
                "to take long",
                code="source_too_large",
            ) from None
        finally:
            timer.cancel()
        if not good:
            raise value
        return value  # type: ignore[no-any-return]

    def close(self) -> None:
        """Ends the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        self._process.kill()
        self._process.wait()


def _send(stream: Any, message: object) -> None:
    data = pickle.dumps(message)
    stream.write(len(data).to_bytes(_LENGTH, "big") + data)
    stream.flush()


def _receive(stream: Any) -> Any:
    length = stream.read(_LENGTH)
    if len(length) < _LENGTH:
        raise EOFError
    data = stream.read(int.from_bytes(length, "big"))
    # of our own code on the other side, which parses what it is given and runs nothing of it
    return pickle.loads(data)


def _serve() -> None:
    memory, seconds = int(sys.argv[1]), int(sys.argv[2])
    replace(PROJECTS, memory=memory, processor=seconds).enter()
    commands, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # a parser that warns must not write between the answers
    os.dup2(2, 1)
    while True:
        try:
            function, args, kwargs = _receive(commands)
        except EOFError:
            return
        try:
            answer = (True, function(*args, **kwargs))
        except BuildError as error:
            answer = (False, error)
        except RecursionError:
            answer = (False, SourceError("a table of the project is nested too deep to be read"))
        except OSError as error:
            answer = (False, error)
        _send(answers, answer)


if __name__ == "__main__":
    _serve()
