"""What held runs in line, and for how long: spans of a scope and a reason, by which each run's wait is split.

A scope is what runs that are held alike have in common: a queue, a key of it, the memory they ask for. So a line of
a hundred thousand runs behind a limit is one span, and nothing is written for any of them. The duty `holds` looks
every EVERY seconds; what happened between two looks is what the later one, or the one before it, has seen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from coordinator.storage.tables import holds

#: Seconds between two looks; and for how long what one has seen is taken to hold on where no other follows.
EVERY, LASTS = 2.0, 6.0
#: What stands in the way first, in the order in which it is looked for.
REASONS = (
    *("image", "paused", "queue_limit", "key_limit", "rate", "global_limit"),
    *("no_runner", "memory", "share", "turn"),
)
#: Of a wait that no look has seen.
UNSEEN = "unseen"
#: Spans that one run's wait is split by, the latest ones.
_MOST = 200
#: Seconds that are no part of their own.
_NOTHING = 1e-6

_RECENT = select(holds).where(holds.c.until >= bindparam("since")).order_by(holds.c.until)
_EXTEND = update(holds).where(holds.c.id.in_(bindparam("ids", expanding=True))).values(until=bindparam("seen_at"))
_OF = (
    select(holds.c.reason, holds.c.began_at, holds.c.until)
    .where(
        holds.c.scope.in_(bindparam("scopes", expanding=True)),
        holds.c.until >= bindparam("since"),
        holds.c.began_at <= bindparam("to"),
    )
    .order_by(holds.c.until.desc())
    .limit(_MOST)
)


class Part(NamedTuple):
    """Seconds of a wait, by what held it."""

    reason: str
    seconds: float


class Scope:
    """Names of scopes: short, whatever a queue or a key is called."""

    @staticmethod
    def image(deployment: str) -> str:
        return _named("image", deployment)

    @staticmethod
    def queue(project: str, queue: str) -> str:
        return _named("queue", project, queue)

    @staticmethod
    def key(project: str, queue: str, key: str | None) -> str:
        return _named("key", project, queue, key or "")

    @staticmethod
    def everything() -> str:
        return _named("everything")

    @staticmethod
    def fleet(project: str, memory: int) -> str:
        return _named("fleet", project, memory)


def _named(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def scopes_of(run: Any, memories: Iterable[int]) -> list[str]:
    """Everything that may have held a run, which has asked for so much memory at one time or another."""
    return [
        Scope.image(run.deployment_id),
        Scope.queue(run.project, run.queue),
        Scope.key(run.project, run.queue, run.concurrency_key),
        Scope.everything(),
        *(Scope.fleet(run.project, memory) for memory in sorted(set(memories))),
    ]


# ---------------------------------------------------------------- written


def record(conn: Connection, now: float, seen: dict[str, str]) -> int:
    """Takes down what a look has seen, reasons by scope; how many spans have begun.

    That it is only its turn counts when it is seen twice: between two claims a place is free for a moment.
    """
    known: dict[str, Row[Any]] = {row.scope: row for row in conn.execute(_RECENT, {"since": now - LASTS})}
    going_on, begun = [], []
    for scope, reason in sorted(seen.items()):
        last = known.get(scope)
        if last is not None and last.reason == reason:
            going_on.append(last.id)
        elif last is None:
            begun.append({"scope": scope, "reason": reason, "began_at": now - EVERY, "until": now})
        elif reason != "turn" or last.until < now - 1.5 * EVERY:
            begun.append({"scope": scope, "reason": reason, "began_at": min(last.until, now), "until": now})
    if going_on:
        conn.execute(_EXTEND, {"ids": going_on, "seen_at": now})
    if begun:
        conn.execute(insert(holds), begun)
    return len(begun)


def newest(conn: Connection) -> int:
    """The number of the span that began last; 0 where there is none."""
    return int(conn.scalar(select(func.max(holds.c.id))) or 0)


# ---------------------------------------------------------------- read


def of(conn: Connection, scopes: list[str], since: float, to: float) -> list[Row[Any]]:
    """The spans of these scopes within that time, and what lasts into it."""
    return list(conn.execute(_OF, {"scopes": scopes, "since": since - LASTS, "to": to + LASTS}))


def split(waited: Sequence[tuple[float, float]], spans: Sequence[Any]) -> list[Part]:
    """What held a run that waited at these times, which don't overlap; together the parts are their whole length.

    Where several spans cover one moment, the one counts that would have been named then. Largest parts first.
    """
    spent: dict[str, float] = {}
    for begin, end in waited:
        for reason, seconds in _within(begin, end, spans):
            spent[reason] = spent.get(reason, 0.0) + seconds
    return [Part(*pair) for pair in sorted(spent.items(), key=lambda pair: -pair[1])]


def _within(begin: float, end: float, spans: Sequence[Any]) -> list[tuple[str, float]]:
    near = [span for span in spans if span.began_at < end + LASTS and span.until > begin - LASTS]
    edges = sorted({begin, end, *(at for s in near for at in (s.began_at, s.until) if begin < at < end)})
    pieces = [(one, other, _covering(near, (one + other) / 2)) for one, other in pairwise(edges)]
    found = []
    for one, other, reason in pieces:
        if other - one > _NOTHING:
            found.append((reason or _beside(near, one, other), other - one))
    return found


def _covering(spans: Sequence[Any], at: float) -> str | None:
    there = {span.reason for span in spans if span.began_at <= at <= span.until}
    return next((reason for reason in REASONS if reason in there), None)


def _beside(spans: Sequence[Any], begin: float, end: float) -> str:
    """Of a time that none covers: what held until then, else what holds right after it."""
    before = [span for span in spans if begin - LASTS <= span.until <= begin + _NOTHING]
    after = [span for span in spans if end - _NOTHING <= span.began_at <= end + EVERY]
    if before and end - max(span.until for span in before) <= LASTS:
        last = max(span.until for span in before)
        there = {span.reason for span in before if span.until >= last - _NOTHING}
    elif after and end - begin <= LASTS:
        first = min(span.began_at for span in after)
        there = {span.reason for span in after if span.began_at <= first + _NOTHING}
    else:
        return UNSEEN
    return next((reason for reason in REASONS if reason in there), UNSEEN)
