"""Which duties this coordinator carries out: of those on one PostgreSQL, each duty has one holder.

A duty is held by a lock of a session of its own. A holder that is killed loses it with its connection, at once;
one that hangs no longer speaks on that connection, and PostgreSQL ends it after IDLE seconds (from version 14
on). A holder that does not know yet may do one more round beside the new one: every duty is made of guarded
writes, so that costs time and changes nothing (docs/decisions/005).
"""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    import psycopg

log = structlog.get_logger()

#: Seconds of silence after which PostgreSQL ends a holder's session.
IDLE = 15
#: How often a holder speaks, and the others ask for what may have come free.
_PAUSE = 2.0
#: The first half of the locks' numbers; the second is made of the duty's name.
_LOCKS = 0x5A40_7A15


class Seats:
    """The event of a duty is set while this process holds it."""

    def __init__(self, connect: dict[str, Any] | None, duties: list[str]) -> None:
        """`connect`: the arguments of psycopg's connect; None where no other process can be on the database."""
        self._connect = connect
        self._events = {duty: asyncio.Event() for duty in duties}

    def of(self, duty: str) -> asyncio.Event:
        return self._events[duty]

    @property
    def held(self) -> list[str]:
        return sorted(duty for duty, event in self._events.items() if event.is_set())

    async def run(self) -> None:
        """Until it is cancelled; the seats are free when it ends."""
        if self._connect is None:
            for event in self._events.values():
                event.set()
            return
        import psycopg  # an install on SQLite never needs it

        while True:
            try:
                async with await psycopg.AsyncConnection.connect(**self._connect, autocommit=True) as conn:
                    await self._sit(conn)
            except (psycopg.Error, OSError) as error:
                log.warning("the duties are left to other coordinators", problem=str(error).strip())
            finally:
                for event in self._events.values():
                    event.clear()
            await asyncio.sleep(_PAUSE)

    async def _sit(self, conn: psycopg.AsyncConnection[Any]) -> None:
        if conn.info.server_version >= 140000:
            await conn.execute(f"SET idle_session_timeout = '{IDLE}s'")
        while True:
            free = [duty for duty, event in self._events.items() if not event.is_set()]
            # also where nothing is asked for: this is how the holder is known to live
            numbers = [number(duty) for duty in free]
            query = "SELECT n, pg_try_advisory_lock(%s, n) FROM unnest(%s::int[]) AS n"
            rows = await (await conn.execute(query, [_LOCKS, numbers])).fetchall()
            taken = {n for n, got in rows if got}
            for duty in free:
                if number(duty) in taken:
                    self._events[duty].set()
                    log.info("this coordinator carries out a duty", duty=duty)
            await asyncio.sleep(_PAUSE)


def number(duty: str) -> int:
    """The duty's lock: the same in every coordinator, and within PostgreSQL's signed integers."""
    return zlib.crc32(duty.encode()) - 2**31
