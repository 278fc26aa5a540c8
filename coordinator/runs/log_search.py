"""Looking through one run's lines: by level, text, attempt, stream and logger, from either end.

Lines are read in their order and looked at here, not by the database: so upper and lower case are one in every
script and on every database, and how much one request reads is known. It ends after MOST lines or SECONDS of time
with what it has found by then, and says where to go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, select, tuple_

from coordinator.runs.logs import START, Cursor
from coordinator.storage.tables import log_lines

#: Lines and seconds after which a search answers what it has.
MOST = 20_000
SECONDS = 0.06
#: Lines that are read at once: between two readings it looks at the clock.
_STEP = 1000

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
        """Whether every line is wanted."""
        return self == EVERY


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
    fits = matcher(wanted)
    deadline = clock() + seconds
    lines: list[Row[Any]] = []
    looked_at, last = 0, after
    while True:
        # one more than is needed says whether there are more
        step = min(_STEP, most - looked_at, limit + 1 if wanted.all else _STEP)
        rows = conn.execute(_page(run_id, wanted.attempt, last, step, backwards)).all()
        for row in rows:
            if len(lines) == limit:
                return _found(lines, last, looked_at, more=True, cut=False, backwards=backwards)
            looked_at += 1
            last = (row.attempt, row.seq)
            if fits(row):
                lines.append(row)
        if len(rows) < step:
            return _found(lines, last, looked_at, more=False, cut=False, backwards=backwards)
        if looked_at >= most or clock() >= deadline:
            cut = len(lines) < limit
            return _found(lines, last, looked_at, more=True, cut=cut, backwards=backwards)


def around(conn: Connection, now: float, run_id: str, place: Cursor, lines: int = 10) -> list[Row[Any]]:
    """The line at `place` between so many before and after it; what is not there is left out."""
    before = search(conn, now, run_id, after=place, limit=lines, backwards=True).lines
    # the line itself is the first after the place before it
    rest = search(conn, now, run_id, after=(place[0], place[1] - 1), limit=lines + 1).lines
    return before + (rest if rest and (rest[0].attempt, rest[0].seq) == place else rest[:lines])


def _found(
    lines: list[Row[Any]], last: Cursor | None, looked_at: int, *, more: bool, cut: bool, backwards: bool
) -> Found:
    return Found(lines[::-1] if backwards else lines, last if more else None, last, looked_at, cut)


def _page(run_id: str, attempt: int | None, last: Cursor | None, limit: int, backwards: bool) -> Select[Any]:
    """By the primary key alone: it costs what it reads, wherever in the run it begins."""
    place = tuple_(log_lines.c.attempt, log_lines.c.seq)
    query = select(log_lines).where(log_lines.c.run_id == run_id)
    if attempt is not None:
        query = query.where(log_lines.c.attempt == attempt)
    if backwards:
        query = query.order_by(log_lines.c.attempt.desc(), log_lines.c.seq.desc())
        if last is not None:
            query = query.where(place < last)
    else:
        query = query.where(place > (last or START)).order_by(log_lines.c.attempt, log_lines.c.seq)
    return query.limit(limit)
