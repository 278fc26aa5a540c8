"""The arguments of a call, of a task and a payload: what a signature takes is loaded where there are parameters."""

from __future__ import annotations

from typing import Any

from samovar.declare.registry import Declared
from samovar.values.functions import Bound, takes_nothing


def bind(task: Declared, payload: Any) -> Bound:
    """Raises InvalidPayload with every bad field at once, and OptionError for a parameter that nothing fills."""
    if payload == {} and takes_nothing(task.function):
        return Bound((), {})
    return task.signature.bind(payload)


def prepare(task: Declared) -> None:
    """Load what its next call needs. Raises OptionError."""
    if not takes_nothing(task.function):
        _ = task.signature
