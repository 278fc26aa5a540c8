"""Work that must not be done inside a transaction: it is done between two tries of that transaction.

A store function that meets such work raises Again. The database rolls the transaction back, has the work done while
no connection is held, and calls the function again, which now finds what came of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple


class Job(NamedTuple):
    """`work` may take long; `project` is who it is for, so that each has its share."""

    project: str
    work: Callable[[], None]


class Again(Exception):
    """The transaction is to be tried again once these jobs are done."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        super().__init__("to be done outside of the transaction")
        self.jobs = list(jobs)


_state = threading.local()


@contextmanager
def transaction() -> Iterator[None]:
    """Marks this thread as being inside of a transaction."""
    before = inside()
    _state.inside = True
    try:
        yield
    finally:
        _state.inside = before


def inside() -> bool:
    return bool(getattr(_state, "inside", False))


def demand(project: str, work: Callable[[], None]) -> None:
    """Does `work` now, or raises Again where a transaction is held."""
    if inside():
        raise Again([Job(project, work)])
    work()
