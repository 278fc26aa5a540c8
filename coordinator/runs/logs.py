"""The log lines of runs: stored in order, each once, read by cursor."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, and_, delete, or_, select

from coordinator.access import leases
from coordinator.foundation.errors import invalid_field
from coordinator.storage import dialect
from coordinator.storage.tables import log_lines
from coordinator.wire import AttemptLogLine

#: (attempt, seq) of the last line seen.
Cursor = tuple[int, int]
START: Cursor = (0, -1)

_CHUNK = 500


def append(conn: Connection, now: float, attempt_id: str, token: int, lines: list[AttemptLogLine]) -> str:
    """Stores the lines of a live attempt; its run's id. Raises StaleAttempt."""
    held = leases.require(conn, now, attempt_id, token)
    store(conn, held.run_id, held.number, lines)
    return str(held.run_id)


def store(conn: Connection, run_id: str, number: int, lines: list[AttemptLogLine]) -> None:
    """Stores lines whose right to be written is already checked; a line that is there already stays.

    One that replaces a line that had not ended takes that one's place, at its own.
    """
    rows = [
        {
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
        for line in lines
    ]
    for start in range(0, len(rows), _CHUNK):
        conn.execute(
            dialect.insert(conn.dialect.name, log_lines).on_conflict_do_nothing(), rows[start : start + _CHUNK]
        )
    # after all of them: a batch that comes twice brings the replaced ones again
    replaced = [row["replaces"] for row in rows if row["replaces"] is not None]
    for start in range(0, len(replaced), _CHUNK):
        conn.execute(
            delete(log_lines).where(
                log_lines.c.run_id == run_id,
                log_lines.c.attempt == number,
                log_lines.c.seq.in_(replaced[start : start + _CHUNK]),
                log_lines.c.partial,
            )
        )


def read(conn: Connection, now: float, run_id: str, after: Cursor = START, limit: int = 500) -> list[Row[Any]]:
    """Lines after the cursor, oldest first."""
    attempt, seq = after
    query = select(log_lines).where(
        log_lines.c.run_id == run_id,
        log_lines.c.attempt >= attempt,
        or_(log_lines.c.attempt > attempt, and_(log_lines.c.attempt == attempt, log_lines.c.seq > seq)),
    )
    return list(conn.execute(query.order_by(log_lines.c.attempt, log_lines.c.seq).limit(limit)))


def cursor_text(row: Row[Any]) -> str:
    return f"{row.attempt}.{row.seq}"


def parse_cursor(text: str | None) -> Cursor:
    """The cursor in `text`. Raises Invalid when it is none of ours."""
    if not text:
        return START
    attempt, _, seq = text.partition(".")
    try:
        return int(attempt), int(seq)
    except ValueError:
        raise invalid_field("after", f"{text!r} is no cursor: give the `next` of an earlier page") from None


def _text(text: str) -> str:
    # PostgreSQL's text has no NUL; a line with one is still worth keeping
    return text.replace("\x00", "\ufffd")
