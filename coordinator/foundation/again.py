"""Work that must not be done inside a transaction: it is done between two tries of that transaction.

A store function that meets such work raises Again. The database rolls the transaction back, has the work done while
no connection is held, and calls the function again, which now finds what came of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple


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

#: What one operation keeps from try to try: see `same`.
Memo = dict[str, Any]


@contextmanager
def transaction() -> Iterator[None]:
    """Marks this thread as being inside of a transaction."""
    before = inside()
    _state.inside = True
    try:
        yield
    finally:
        _state.inside = before


@contextmanager
def attempt(memo: Memo) -> Iterator[None]:
    """Marks this thread as being in one try of an operation, all of whose tries are given one `memo`."""
    before = getattr(_state, "memo", None)
    _state.memo = memo
    try:
        yield
    finally:
        _state.memo = before


def same(name: str, make: Callable[[], str]) -> str:
    """What `make` has given in the operation's first try.

    For an id that stands in what is checked: made anew in each try, it would be checked anew for ever.
    """
    memo: Memo | None = getattr(_state, "memo", None)
    if memo is None:
        return make()
    if name not in memo:
        memo[name] = make()
    return str(memo[name])


def brought(name: str, project: str, work: Callable[[], Any]) -> Any:
    """What `work` gives, which an operation has done once, outside of its transaction. Raises Again."""
    memo: Memo | None = getattr(_state, "memo", None)
    if memo is None or not inside():
        return work()
    if name not in memo:

        def bring() -> None:
            memo[name] = work()

        raise Again([Job(project, bring)])
    return memo[name]


def inside() -> bool:
    return bool(getattr(_state, "inside", False))


def demand(project: str, work: Callable[[], None]) -> None:
    """Does `work` now, or raises Again where a transaction is held."""
    if inside():
        raise Again([Job(project, work)])
    work()
