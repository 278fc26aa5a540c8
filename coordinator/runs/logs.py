"""The log lines of runs: stored in order, each once, read by cursor."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from json.encoder import encode_basestring
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Insert,
    Row,
    bindparam,
    delete,
    func,
    select,
    tuple_,
    update,
)

from coordinator.access import leases
from coordinator.foundation.errors import TooMuch, invalid_field
from coordinator.storage import dialect, quota
from coordinator.storage.prepared import Prepared
from coordinator.storage.tables import LOG_LEVELS, attempts, log_lines
from coordinator.wire import AttemptLogLine

#: (attempt, seq) of the last line seen.
Cursor = tuple[int, int]
START: Cursor = (0, -1)

#: As far as the database's integers go.
_CURSOR = re.compile(r"([0-9]{1,9})\.(-?[0-9]{1,18})", re.ASCII)

_CHUNK = 500
#: Bytes of an attempt's lines, encoded and with everything in them: what its sidecar lets through, and a little
#: more for a batch that comes twice. And of a run's, whatever number of attempts it has.
MOST_OF_ATTEMPT = 12 * 1024 * 1024
MOST_OF_RUN = 4 * MOST_OF_ATTEMPT
#: What a line has besides its texts.
_FRAME = 80

# Statements of the hot path are built once.

_ROOM = Prepared(
    select(
        func.sum(attempts.c.log_bytes),
        func.sum(attempts.c.log_bytes).filter(attempts.c.number == bindparam("own")),
    ).where(attempts.c.run_id == bindparam("run"))
)
_REPLACE = Prepared(
    delete(log_lines)
    .where(
        log_lines.c.run_id == bindparam("run"),
        log_lines.c.attempt == bindparam("own"),
        log_lines.c.seq.in_(bindparam("replaced", expanding=True)),
        log_lines.c.partial,
    )
    .returning(log_lines.c.level, log_lines.c.logger, log_lines.c.message)
)
_ITS_LINES = (log_lines.c.run_id == bindparam("run")) & (log_lines.c.attempt == bindparam("own"))
_OF_LEVEL: dict[str, ColumnElement[bool]] = {
    "debug": log_lines.c.level == "debug",
    "info": log_lines.c.level.not_in(("debug", "warning", "error", "critical")),
    "warning": log_lines.c.level == "warning",
    "error": log_lines.c.level.in_(("error", "critical")),
}
_COUNTS = [attempts.c.log_bytes, *(attempts.c[f"log_{level}"] for level in LOG_LEVELS)]
_GROW = Prepared(
    update(attempts)
    .where(attempts.c.run_id == bindparam("run"), attempts.c.number == bindparam("own"))
    .values(
        log_bytes=attempts.c.log_bytes + bindparam("grown"),
        **{f"log_{level}": attempts.c[f"log_{level}"] + bindparam(f"more_{level}") for level in LOG_LEVELS},
    )
    .returning(*_COUNTS)
)
#: The same where lines came that were there already: which, nobody has said.
_RECOUNT = Prepared(
    update(attempts)
    .where(attempts.c.run_id == bindparam("run"), attempts.c.number == bindparam("own"))
    .values(
        log_bytes=attempts.c.log_bytes + bindparam("grown"),
        **{
            f"log_{level}": select(func.count())
            .select_from(log_lines)
            .where(_ITS_LINES, _OF_LEVEL[level])
            .scalar_subquery()
            for level in LOG_LEVELS
        },
    )
    .returning(*_COUNTS)
)


@cache
def _add(dialect_name: str) -> Prepared:
    added: Insert = dialect.insert(dialect_name, log_lines).on_conflict_do_nothing()
    return Prepared(added.execution_options(preserve_rowcount=True))


def append(conn: Connection, now: float, attempt_id: str, token: int, lines: list[AttemptLogLine]) -> str:
    """Stores the lines of a live attempt; its run's id. Raises StaleAttempt."""
    held = leases.require(conn, now, attempt_id, token)
    try:
        size = sum(_cost(line.level, line.logger, line.message) for line in lines)
        quota.check_bytes_of_run(conn, held.run_id, size)
    except (TooMuch, quota.DiskFull):
        return str(held.run_id)  # they are left out: a run can end without them
    store(conn, held.run_id, held.number, lines)
    return str(held.run_id)


def store(conn: Connection, run_id: str, number: int, lines: list[AttemptLogLine]) -> Row[Any]:
    """Stores lines whose right to be written is already checked; a line that is there already stays. What the
    attempt's log has now: `log_bytes`, and its lines by level (`log_debug` and so on).

    One that replaces a line that had not ended takes that one's place, at its own. What the attempt, or its run,
    has no room for is left out: the sidecar has left it out before, unless it is none of ours.
    """
    taken, room = 0, _room(conn, run_id, number)
    rows = []
    for line in lines:
        row = {
            "run_id": run_id,
            "attempt": number,
            "seq": line.seq,
            "at": line.at,
            "level": _text(line.level),
            "stream": line.stream,
            "logger": None if line.logger is None else _text(line.logger),
            "message": _text(line.message),
            "partial": line.partial,
            "replaces": line.replaces if line.replaces is not None and line.replaces < line.seq else None,
        }
        cost = _cost(line.level, line.logger, line.message)
        if taken + cost <= room:
            taken += cost
            rows.append(row)
    added = 0
    for start in range(0, len(rows), _CHUNK):
        added += conn.execute(_add(conn.dialect.name), rows[start : start + _CHUNK]).rowcount
    more = Counter(level_of(str(row["level"])) for row in rows)
    # after all of them: a batch that comes twice brings the replaced ones again
    replaced = [row["replaces"] for row in rows if row["replaces"] is not None]
    for start in range(0, len(replaced), _CHUNK):
        some = replaced[start : start + _CHUNK]
        gone = conn.execute(_REPLACE, {"run": run_id, "own": number, "replaced": some}).all()
        taken -= sum(_cost(*row) for row in gone)
        more.subtract(level_of(row.level) for row in gone)
    given = {"run": run_id, "own": number, "grown": taken}
    if added == len(rows):
        return conn.execute(_GROW, {**given, **{f"more_{level}": more[level] for level in LOG_LEVELS}}).one()
    return conn.execute(_RECOUNT, given).one()


def level_of(level: str) -> str:
    """The one of LOG_LEVELS under which a line of `level` is counted."""
    return "error" if level == "critical" else level if level in LOG_LEVELS else "info"


def _room(conn: Connection, run_id: str, number: int) -> int:
    """The bytes that the attempt may still write."""
    of_run, of_attempt = conn.execute(_ROOM, {"run": run_id, "own": number}).one()
    return min(MOST_OF_RUN - int(of_run or 0), MOST_OF_ATTEMPT - int(of_attempt or 0))


def _cost(level: str, logger: str | None, message: str) -> int:
    """The bytes of a line as JSON, near enough."""
    texts = (level, logger or "", message)
    return _FRAME + sum(len(encode_basestring(text).encode("utf-8", "replace")) for text in texts)


def read(conn: Connection, now: float, run_id: str, after: Cursor = START, limit: int = 500) -> list[Row[Any]]:
    """Lines after the cursor, oldest first."""
    # as one comparison: two of them would be read from the attempt's first line on
    query = select(log_lines).where(
        log_lines.c.run_id == run_id, tuple_(log_lines.c.attempt, log_lines.c.seq) > after
    )
    return list(conn.execute(query.order_by(log_lines.c.attempt, log_lines.c.seq).limit(limit)))


def cursor_text(row: Row[Any]) -> str:
    return write_cursor((row.attempt, row.seq))


def write_cursor(cursor: Cursor) -> str:
    """As `1.118`: the 118th number of the first attempt."""
    return f"{cursor[0]}.{cursor[1]}"


def parse_cursor(text: str | None) -> Cursor:
    """The cursor in `text`. Raises Invalid when it is none of ours."""
    if not text:
        return START
    if (match := _CURSOR.fullmatch(text)) is None:
        shown = text if len(text) <= 80 else text[:80] + "…"
        raise invalid_field("after", f"{shown!r} is no cursor: give the `next` of an earlier page")
    return int(match[1]), int(match[2])


def _text(text: str) -> str:
    # PostgreSQL's text has no NUL; a line with one is still worth keeping
    return text.replace("\x00", "\ufffd")
