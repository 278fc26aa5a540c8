"""The log of a run with those of the runs below it, as one: each log in its own order, together by their times.

A place in it is a place in each of the logs, so that no line is lost or doubled between two pages, whatever the
clocks of their hosts say and whatever is written meanwhile: a line that comes late to one log is shown late.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, select, tuple_, union_all

from coordinator.foundation.errors import invalid_field
from coordinator.runs.log_search import EVERY, MOST, SECONDS, Wanted, matcher
from coordinator.runs.logs import START, Cursor
from coordinator.storage.tables import log_lines, runs

#: Runs of one log, the run itself among them, and how far below it they stand.
MOST_RUNS, DEPTH = 32, 3
#: Lines that are taken from a log at first, at least; and from all logs at once, at most.
_LEAST, _TAKEN = 16, 1000

#: A place in each log, by its run: after it, or before it.
Places = dict[str, Cursor]

_PLACE = re.compile(r"([a-z]{1,8}_[0-9a-z]{1,32})\.([0-9]{1,9})\.(-?[0-9]{1,18})", re.ASCII)
_place = tuple_(log_lines.c.attempt, log_lines.c.seq)


class Family(NamedTuple):
    """`runs`: the run itself, and the oldest below it in the order in which they were made; `left_out`: there are
    more of them.
    """

    runs: list[Row[Any]]
    left_out: bool


class Merged(NamedTuple):
    """`lines` by time, whichever way they were read. `next`, `last`, `looked_at`, `cut_short`: as of
    log_search.Found, with a place for each log.
    """

    lines: list[Row[Any]]
    next: Places | None
    last: Places
    looked_at: int
    cut_short: bool


def family(conn: Connection, now: float, run_id: str) -> Family:
    """Of a run; nobody where it is not there.

    Whoever is made later comes later in it, so it only grows at its end: what was read of it stays where it was.
    """
    of = (runs.c.id, runs.c.parent, runs.c.task, runs.c.status)
    top: list[Row[Any]] = list(conn.execute(select(*of).where(runs.c.id == run_id)))
    below: list[Row[Any]] = []
    level: list[str] = [run_id]
    for depth in range(DEPTH + 1):
        # (by no column, or a database might go through all runs in their order until it has found so many)
        query = select(*of).where(runs.c.parent.in_(level)).order_by(runs.c.id.concat(""))
        found: list[Row[Any]] = list(conn.execute(query.limit(MOST_RUNS if depth < DEPTH else 1)))
        if not found or depth == DEPTH:
            break
        below += found
        level = [row.id for row in found]
    below.sort(key=lambda row: row.id)
    return Family([*top, *below[: MOST_RUNS - 1]], bool(found) or len(below) >= MOST_RUNS)


class _Log:
    """One of the logs. `place`: where it was read to; `rows`: what of that fits and is not shown yet; `more`: there
    may be more.
    """

    def __init__(self, run: str, place: Cursor | None) -> None:
        self.run = run
        self.place = place
        self.rows: deque[Row[Any]] = deque()
        self.more = True

    def goes_on(self, backwards: bool) -> Cursor:
        """Where the next page does: past what did not fit, and before what was not shown."""
        if not self.rows:
            return self.place or START
        first = self.rows[0]
        return first.attempt, first.seq + (1 if backwards else -1)


def read(
    conn: Connection,
    now: float,
    run_ids: Sequence[str],
    wanted: Wanted = EVERY,
    places: Places | None = None,
    limit: int = 500,
    *,
    backwards: bool = False,
    most: int = MOST,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> Merged:
    """The first `limit` lines that are `wanted` after `places`; with `backwards` the last ones before them.

    A run that `places` does not name is read from its beginning; backwards not at all, for it is newer than they.
    """
    fits, deadline = matcher(wanted), clock() + seconds
    known = places or {}
    later = backwards and places is not None
    logs = [_Log(run, known.get(run)) for run in run_ids if run in known or not later]
    ends = {log.run: log.place or START for log in logs}
    lines: list[Row[Any]] = []
    looked_at, cut, size = 0, False, max(_LEAST, -(-limit // max(1, len(logs))))
    while len(lines) < limit:
        if hungry := [log for log in logs if log.more and not log.rows]:
            # what one of them has next may be before all that the others have; of all lines no more than `limit`
            # are gone through, and some of each log
            if looked_at and (looked_at >= most or (not wanted.all and clock() >= deadline)):
                cut = True
                break
            each = min(size, max(1, _TAKEN // len(hungry)), max(1, (most - looked_at) // len(hungry)))
            looked_at += _fill(conn, hungry, fits, each, backwards, None if later else ends)
            size *= 4
            continue
        full = [log for log in logs if log.rows]
        if not full:
            break
        log = (max if backwards else min)(full, key=lambda log: _order(log.rows[0]))
        lines.append(log.rows.popleft())
    going_on = {log.run: log.goes_on(backwards) for log in logs}
    more = any(log.rows or log.more for log in logs)
    if not backwards:
        ends = going_on
    return Merged(lines[::-1] if backwards else lines, going_on if more else None, ends, looked_at, cut)


def _fill(
    conn: Connection,
    logs: Sequence[_Log],
    fits: Callable[[Any], bool],
    each: int,
    backwards: bool,
    ends: Places | None,
) -> int:
    """Reads some more of each of `logs`, in one statement; how many lines. `ends`: of those read for the first time
    from their ends, where these are.
    """
    # one more than is needed says whether there are more
    queries = [_lines(log, each + 1, backwards) for log in logs]
    query = queries[0] if len(queries) == 1 else union_all(*(select(one.subquery()) for one in queries))
    found: dict[str, list[Row[Any]]] = {log.run: [] for log in logs}
    for row in conn.execute(query):
        found[row.run_id].append(row)
    for log in logs:
        rows = sorted(found[log.run], key=_cursor, reverse=backwards)
        log.more = len(rows) > each
        if rows:
            if ends is not None and backwards and log.place is None:
                ends[log.run] = _cursor(rows[0])
            log.place = _cursor(rows[-1])
        log.rows.extend(filter(fits, rows))
    return sum(len(rows) for rows in found.values())


def _lines(log: _Log, limit: int, backwards: bool) -> Select[Any]:
    """By the primary key, as all that reads a log."""
    query = select(log_lines).where(log_lines.c.run_id == log.run).limit(limit)
    if log.place is not None:
        query = query.where(_place < log.place if backwards else _place > log.place)
    if backwards:
        return query.order_by(log_lines.c.attempt.desc(), log_lines.c.seq.desc())
    return query.order_by(log_lines.c.attempt, log_lines.c.seq)


def _cursor(row: Row[Any]) -> Cursor:
    return row.attempt, row.seq


def _order(row: Row[Any]) -> tuple[float, str, int, int]:
    return row.at, row.run_id, row.attempt, row.seq


# ---------------------------------------------------------------- cursors


def write_places(places: Mapping[str, Cursor]) -> str:
    """As `run_01h….1.118~run_01j….2.4`: a place in each log."""
    return "~".join(f"{run}.{attempt}.{seq}" for run, (attempt, seq) in places.items())


def parse_places(text: str) -> Places:
    """The places in `text`. Raises Invalid when they are none of ours."""
    parts = text.split("~", MOST_RUNS - 1)
    found: Places = {}
    for part in parts:
        match = _PLACE.fullmatch(part)
        if match is None:
            shown = text if len(text) <= 80 else text[:80] + "…"
            raise invalid_field(
                "after", f"{shown!r} is no cursor of a log with children: give the `next` of such a page"
            )
        found[match[1]] = int(match[2]), int(match[3])
    return found
