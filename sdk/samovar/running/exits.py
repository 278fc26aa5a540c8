"""`on_exit`: what is to be done when a run has ended, such as sending telemetry that waits."""

from __future__ import annotations

from typing import Any, Callable, TypeVar

from samovar.errors import OptionError

F = TypeVar("F", bound=Callable[[], Any])

_functions: list[Callable[[], Any]] = []


def on_exit(function: F) -> F:
    """Have `function` called at the end of each run, after its result is safe; a decorator, or a call in a run.

    The last one that was given is called first. All of them, log handlers, threads that are left and `atexit`
    have 2 seconds together; what is raised is a line of the log, and changes nothing about the run. Raises
    OptionError.
    """
    if not callable(function):
        raise OptionError(f"on_exit({function!r}): give a function without arguments")
    _functions.append(function)
    return function


def known() -> list[Callable[[], Any]]:
    """The functions there are, in the order they were given; for the harness."""
    return list(_functions)


def put_back(functions: list[Callable[[], Any]]) -> None:
    """Have these again, and no others; for the harness."""
    _functions[:] = functions


def given() -> bool:
    """Whether there are any; for the harness."""
    return bool(_functions)


def take() -> list[Callable[[], Any]]:
    """The functions there are, in the order of their calls; for the harness."""
    taken = _functions[::-1]
    _functions.clear()
    return taken
