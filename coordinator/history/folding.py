"""The duty `observe`: facts are taken a batch at a time and folded into history, in one transaction.

What is folded is deleted with it: whenever the holder is killed, a fact is either still there or counted, once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, delete, func, select

from coordinator.history import groups, series
from coordinator.storage import dialect
from coordinator.storage.tables import facts

#: Facts that one transaction folds: so few that an end waits no longer for it than for another end or two.
BATCH = 100

#: What is made of a batch. What else is to be known of ends is added here.
FOLDS: tuple[Callable[[Connection, Sequence[Row[Any]]], None], ...] = (series.fold, groups.fold)

_OLDEST = select(facts.c.id).order_by(facts.c.id).limit(bindparam("most"))
_TAKE = delete(facts).where(facts.c.id.in_(_OLDEST)).returning(*facts.c)
_WAITING = select(func.min(facts.c.id))
_SINCE = select(facts.c.at).order_by(facts.c.id).limit(1)


class Folded(NamedTuple):
    """How many facts were folded, and whether there may be more."""

    facts: int
    more: bool


def waits(conn: Connection, now: float) -> bool:
    """Whether there is anything to fold."""
    return conn.scalar(_WAITING) is not None


def lag(conn: Connection, now: float) -> float:
    """Seconds since the oldest fact that is not folded yet; 0 where there is none."""
    since = conn.scalar(_SINCE)
    return 0.0 if since is None else max(0.0, now - since)


def run_once(conn: Connection, now: float, most: int = BATCH) -> Folded:
    """One batch."""
    # a holder that does not know yet that it is none may be doing the same
    dialect.lock_folding(conn)
    taken = sorted(conn.execute(_TAKE, {"most": most}), key=lambda fact: fact.id)
    if taken:
        for fold in FOLDS:
            fold(conn, taken)
    return Folded(len(taken), len(taken) == most)
