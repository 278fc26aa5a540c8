"""Whose keys and sessions were seen lately, so that not every request asks the database for it.

All are forgotten when a key is revoked or a session ends, here or (where it hears of others) elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sqlalchemy import Connection

from coordinator.access import keys, sessions
from coordinator.access.keys import Caller
from coordinator.foundation.errors import Unauthenticated
from coordinator.signals.waking import KEYS, Waking
from coordinator.storage.database import Database

#: How long a key is believed without a look at the database: so long a revoked key may go on where nothing is
#: heard of the coordinator that revoked it.
_REMEMBERED = 5.0
_MOST = 1024

Look = Callable[[Connection, float, str], Caller | None]


class Callers:
    """Used from the event loop's thread only."""

    def __init__(self, database: Database) -> None:
        self._database = database
        #: By the SHA-256 of the key, or of the session's cookie: until when it is believed (by the loop's
        #: clock), and whose it is.
        self._known: dict[str, tuple[float, Caller]] = {}
        #: What is being looked up: of many who come at once with the same key, one asks the database.
        self._asked: dict[str, asyncio.Future[Caller | None]] = {}
        self._forgotten = 0

    async def find(self, key: str) -> Caller:
        """Whose the key is. Raises Unauthenticated."""
        return await self._find(key, keys.caller_of, "this key is not known, or was revoked")

    async def of_session(self, cookie: str) -> Caller:
        """Whose the session is. Raises Unauthenticated."""
        return await self._find(cookie, sessions.caller_of, "this session is over: sign in again")

    async def _find(self, secret: str, look: Look, unknown: str) -> Caller:
        now = asyncio.get_running_loop().time()
        hashed = keys.hash_key(secret)
        until, caller = self._known.get(hashed, (0.0, None))
        if caller is not None and until > now:
            return caller
        forgotten = self._forgotten
        found = await asyncio.shield(self._ask(look, hashed))
        if found is None:
            self._known.pop(hashed, None)
            raise Unauthenticated(unknown)
        if forgotten == self._forgotten:  # else it may have been revoked since it was looked up
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[hashed] = (now + _REMEMBERED, found)
        return found

    def _ask(self, look: Look, hashed: str) -> asyncio.Future[Caller | None]:
        asked = self._asked.get(hashed)
        if asked is None:
            asked = self._asked[hashed] = asyncio.ensure_future(self._database.read(look, hashed))
            asked.add_done_callback(lambda done: self._answered(hashed, done))
        return asked

    def _answered(self, hashed: str, done: asyncio.Future[Caller | None]) -> None:
        if self._asked.get(hashed) is done:
            del self._asked[hashed]
        if not done.cancelled():
            done.exception()  # those who asked may have gone

    def is_known_runner(self, key: str) -> bool:
        """Whether the key was a runner's when it was looked up last, since anything was forgotten."""
        _, caller = self._known.get(keys.hash_key(key), (0.0, None))
        return caller is not None and caller.role == "runner"

    def forget(self) -> None:
        self._forgotten += 1
        self._known.clear()
        self._asked.clear()

    async def run(self, waking: Waking) -> None:
        """Forgets whenever a revocation is heard of, until it is cancelled."""
        with waking.listen(KEYS) as revoked:
            while True:
                await revoked.wait()
                revoked.clear()
                self.forget()
