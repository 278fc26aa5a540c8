"""Looking through one run's lines: by level, text, attempt, stream and logger, from either end.

The database goes through them in their order, a step at a time, and leaves out what it can tell does not fit; the
rest is looked at here, so that upper and lower case are one in every script and on every database. How much one
request reads is known: it ends after MOST lines or SECONDS of time with what it has found by then, and says where
to go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, func, or_, select, tuple_

from coordinator.runs.logs import START, Cursor
from coordinator.storage import dialect
from coordinator.storage.tables import log_lines

#: Lines and seconds after which a search answers what it has.
MOST = 20_000
SECONDS = 0.06
#: Lines that are gone through at once, and at most so many of them taken: between two steps it looks at the clock.
_STEP, _TAKEN = 4000, 1000

LEVELS = ("debug", "info", "warning", "error", "critical")
_RANKS = {level: rank for rank, level in enumerate(LEVELS)}
_INFO = _RANKS["info"]


class Wanted(NamedTuple):
    """Which lines are looked for; what is None leaves nothing out.

    `level`: of this or a higher one. `text`: with this in the message, in upper or lower case. `logger`: by this
    one, or one below it (`app` has `app.db`).
    """

    level: str | None = None
    text: str | None = None
    attempt: int | None = None
    stream: str | None = None
    logger: str | None = None

    @property
    def all(self) -> bool:
        """Whether every line is wanted, of the run or of one attempt: the key alone finds them."""
        return self._replace(attempt=None) == EVERY


EVERY = Wanted()


class Found(NamedTuple):
    """`lines` in the order of the run, whichever way it was read.

    `next`: where to go on, None where the lines ended. `last`: the end of what was looked at (the beginning, where
    it was read backwards), None where there was nothing. `cut_short`: it stopped before it had found `limit`,
    because it had looked at so many or for so long.
    """

    lines: list[Row[Any]]
    next: Cursor | None
    last: Cursor | None
    looked_at: int
    cut_short: bool


def matcher(wanted: Wanted) -> Callable[[Any], bool]:
    """Whether a line (its row, or a view of it) is one of those `wanted`."""
    least = None if wanted.level is None else _RANKS[wanted.level]
    text = None if not wanted.text else wanted.text.replace("\x00", "\ufffd").casefold()
    attempt, stream, logger = wanted.attempt, wanted.stream, wanted.logger
    below = None if logger is None else f"{logger}."

    def fits(line: Any) -> bool:
        if least is not None and rank(line.level) < least:
            return False
        if attempt is not None and line.attempt != attempt:
            return False
        if stream is not None and line.stream != stream:
            return False
        if logger is not None and line.logger != logger and not (line.logger or "").startswith(below or ""):
            return False
        return text is None or text in line.message.casefold()

    return fits


def rank(level: str) -> int:
    """How high a level is; one that is not known counts as info."""
    return _RANKS.get(level.lower(), _INFO)


def search(
    conn: Connection,
    now: float,
    run_id: str,
    wanted: Wanted = EVERY,
    after: Cursor | None = None,
    limit: int = 500,
    *,
    backwards: bool = False,
    most: int = MOST,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> Found:
    """The first `limit` lines that are `wanted` after the cursor; with `backwards` the last ones before it."""
    fits, conditions = matcher(wanted), _conditions(conn, run_id, wanted)
    deadline = clock() + seconds
    lines: list[Row[Any]] = []
    looked_at, last, more = 0, after, True
    # of all lines one more than is needed says whether there are more
    enough = limit + 1 if wanted.all else limit
    while more and len(lines) < enough and looked_at < most and not (looked_at and clock() >= deadline):
        size = min(_STEP, most - looked_at)
        if wanted.all:
            step = _next(conn, conditions, last, min(size, _TAKEN, enough - len(lines)), backwards)
        else:
            step = _fitting(conn, conditions, _of_run(run_id, wanted.attempt), last, size, backwards)
        lines += filter(fits, step.rows)
        looked_at, last, more = looked_at + step.looked_at, step.end, step.more
    if len(lines) > limit:
        lines, more = lines[:limit], True
        last = (lines[-1].attempt, lines[-1].seq)
    cut = more and len(lines) < limit
    return Found(lines[::-1] if backwards else lines, last if more else None, last, looked_at, cut)


def around(conn: Connection, now: float, run_id: str, place: Cursor, lines: int = 10) -> list[Row[Any]]:
    """The line at `place` between so many before and after it; what is not there is left out."""
    before = search(conn, now, run_id, after=place, limit=lines, backwards=True).lines
    # the line itself is the first after the place before it
    rest = search(conn, now, run_id, after=(place[0], place[1] - 1), limit=lines + 1).lines
    return before + (rest if rest and (rest[0].attempt, rest[0].seq) == place else rest[:lines])


# ---------------------------------------------------------------- one step

_place = tuple_(log_lines.c.attempt, log_lines.c.seq)
_Conditions = list[ColumnElement[bool]]


class _Step(NamedTuple):
    """`rows` of the lines that were looked at, where they end, and whether there may be more."""

    rows: Sequence[Row[Any]]
    looked_at: int
    end: Cursor | None
    more: bool


def _next(conn: Connection, of_run: _Conditions, last: Cursor | None, limit: int, backwards: bool) -> _Step:
    """The next `limit` lines."""
    rows = conn.execute(_lines(of_run, last, None, limit, backwards)).all()
    return _Step(rows, len(rows), _cursor(rows[-1]) if rows else last, len(rows) == limit)


def _fitting(
    conn: Connection,
    conditions: _Conditions,
    of_run: _Conditions,
    last: Cursor | None,
    size: int,
    backwards: bool,
) -> _Step:
    """Those of the next `size` lines that the database can't leave out; at most _TAKEN of them."""
    end, more = _end(conn, of_run, last, size, backwards)
    if end is None:
        return _Step([], 0, last, False)
    rows = conn.execute(_lines(conditions, last, end, _TAKEN, backwards)).all()
    if len(rows) == _TAKEN:
        end, more = _cursor(rows[-1]), True
    elif more:
        return _Step(rows, size, end, more)
    counted = select(func.count()).select_from(log_lines).where(*of_run, *_range(last, end, backwards))
    return _Step(rows, int(conn.scalar(counted) or 0), end, more)


def _end(
    conn: Connection, of_run: _Conditions, last: Cursor | None, size: int, backwards: bool
) -> tuple[Cursor | None, bool]:
    """Where `size` lines after `last` end, and whether there may be more; None where there is no line."""
    keys = select(log_lines.c.attempt, log_lines.c.seq).where(*of_run, *_range(last, None, backwards))
    found = conn.execute(_ordered(keys, backwards).limit(1).offset(size - 1)).one_or_none()
    if found is not None:
        return _cursor(found), True
    # what is written after this one, while it is looked for, is left for the next time
    found = conn.execute(_ordered(keys, not backwards).limit(1)).one_or_none()
    return (None if found is None else _cursor(found)), False


def _cursor(row: Row[Any]) -> Cursor:
    return row.attempt, row.seq


def _of_run(run_id: str, attempt: int | None) -> _Conditions:
    of_run: _Conditions = [log_lines.c.run_id == run_id]
    return of_run if attempt is None else [*of_run, log_lines.c.attempt == attempt]


def _conditions(conn: Connection, run_id: str, wanted: Wanted) -> _Conditions:
    """What the database can tell of `wanted`: it leaves out nothing that fits, and perhaps not all that doesn't."""
    made = _of_run(run_id, wanted.attempt)
    if wanted.level is not None:
        # what has a level that is not known counts as info
        made.append(log_lines.c.level.not_in(LEVELS[: _RANKS[wanted.level]]))
    if wanted.stream is not None:
        made.append(log_lines.c.stream == wanted.stream)
    if wanted.logger is not None:
        below = log_lines.c.logger.startswith(f"{wanted.logger}.", autoescape=True)
        made.append(or_(log_lines.c.logger == wanted.logger, below))
    if wanted.text and (folded := wanted.text.casefold()).isascii():
        # a letter that is not ASCII may be one that is, or two, by the rules of upper and lower case
        plain = dialect.ascii_lower(conn, log_lines.c.message).contains(folded, autoescape=True)
        made.append(or_(plain, ~dialect.is_ascii(conn, log_lines.c.message)))
    return made


def _lines(
    conditions: _Conditions, last: Cursor | None, end: Cursor | None, limit: int, backwards: bool
) -> Select[Any]:
    """By the primary key: it costs what it goes through, wherever in the run it begins."""
    return _ordered(select(log_lines).where(*conditions, *_range(last, end, backwards)), backwards).limit(limit)


def _range(last: Cursor | None, end: Cursor | None, backwards: bool) -> _Conditions:
    if backwards:
        return ([] if last is None else [_place < last]) + ([] if end is None else [_place >= end])
    return [_place > (last or START), *([] if end is None else [_place <= end])]


def _ordered(query: Select[Any], backwards: bool) -> Select[Any]:
    if backwards:
        return query.order_by(log_lines.c.attempt.desc(), log_lines.c.seq.desc())
    return query.order_by(log_lines.c.attempt, log_lines.c.seq)
