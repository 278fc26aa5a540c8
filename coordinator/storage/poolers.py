"""What stands between the coordinator and PostgreSQL: a pooler may, as long as a session stays one.

Claims, duties, migrations and the wake-ups of other coordinators rest on what belongs to a session (advisory locks,
LISTEN, settings). PgBouncer in the mode `session` keeps it together; in `transaction` or `statement` the next
transaction of a client may be in another session, and locks would be left behind in it. That would show in wrong
behaviour much later, so it is looked for at the start.
"""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from typing import Any

import psycopg

from coordinator.foundation.errors import CoordinatorError

#: What the session is marked with: a setting of nobody else's.
_MARK = "samovar.session"
#: How often it is tried to be moved; a pooler that hands out its connections in turn or newest first shows in one.
_TRIES = 4


class NotSessions(CoordinatorError):
    """The pooler takes sessions apart."""

    code = "pooler_mode"


def check(connect: dict[str, Any]) -> None:
    """Raises NotSessions where a session does not stay with its connection; `connect`: arguments of psycopg's.

    A server that is not there is somebody else's to report.
    """
    try:
        with ExitStack() as stack:
            mine = stack.enter_context(psycopg.connect(**connect, autocommit=True, prepare_threshold=None))
            for _ in range(_TRIES):
                word = secrets.token_hex(8)
                mine.execute("SELECT set_config(%s, %s, false)", [_MARK, word])
                pid = _pid(mine)
                # holds a session for as long as this looks: that of the first connection, where it was let go
                other = stack.enter_context(psycopg.connect(**connect, prepare_threshold=None))
                if _mark(other) == word or _mark(mine) != word or _pid(mine) != pid:
                    raise NotSessions(_refusal("transaction"))
    except psycopg.Error as error:
        if "statement pooling" in str(error):
            raise NotSessions(_refusal("statement")) from None


def _mark(conn: psycopg.Connection[Any]) -> str | None:
    found = conn.execute("SELECT current_setting(%s, true)", [_MARK]).fetchone()
    return None if found is None else found[0]


def _pid(conn: psycopg.Connection[Any]) -> int:
    found = conn.execute("SELECT pg_backend_pid()").fetchone()
    assert found is not None
    return int(found[0])


def _refusal(mode: str) -> str:
    return (
        f"database_url: a pooler in the mode {mode!r} stands before PostgreSQL, and takes sessions apart that "
        "locks and notifications belong to: set pool_mode = session for this database (in pgbouncer.ini, for all "
        "or in the database's own line of [databases]), or connect to PostgreSQL itself"
    )
