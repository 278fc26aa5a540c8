"""What one coordinator changes, the others on the same PostgreSQL hear of: NOTIFY and LISTEN.

Topics are told after the commit and not within it. A transaction with a NOTIFY holds one lock of the whole
database while it commits, so that every trigger would wait for the disk of every other; here one connection
tells of all that was committed meanwhile in one statement that waits for no disk. What is lost where a process
dies between its commit and this is found by the polls, which look again by themselves (docs/decisions/004).
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
import structlog

from coordinator.signals.waking import Waking

log = structlog.get_logger()

_NAME = "samovar"
#: PostgreSQL takes less than 8000 bytes.
_LARGEST = 7500
#: More than this is told as "everything".
_MOST = 4000
_EVERYTHING = "*"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
#: A connection that heard nothing this long is asked whether it still is one.
_QUIET = 10.0


class Channel:
    """Runs in the event loop until it is cancelled; connects again by itself, and then wakes everyone once."""

    def __init__(self, connect: dict[str, Any], bell: Waking) -> None:
        """`connect`: the arguments of psycopg's connect."""
        self._connect = connect
        self._bell = bell
        self._me = uuid.uuid4().hex
        self._pending: set[str] = set()
        self._some = asyncio.Event()

    async def run(self) -> None:
        self._bell.on_notify(self._tell)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forever(self._listen))
            group.create_task(self._forever(self._send))

    def _tell(self, topics: tuple[str, ...]) -> None:
        if len(self._pending) < _MOST:
            self._pending.update(topics)
        else:
            self._pending = {_EVERYTHING}
        self._some.set()

    async def _forever(self, work: Any) -> None:
        pause = _FIRST_PAUSE
        while True:
            began = asyncio.get_running_loop().time()
            try:
                # autocommit: each statement is told at once
                async with await psycopg.AsyncConnection.connect(**self._connect, autocommit=True) as conn:
                    await work(conn)
            except (psycopg.Error, OSError) as error:
                if asyncio.get_running_loop().time() - began > _LONGEST_PAUSE:
                    pause = _FIRST_PAUSE
                if pause == _FIRST_PAUSE:
                    log.warning("the other coordinators are not heard now", problem=str(error).strip())
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _listen(self, conn: psycopg.AsyncConnection[Any]) -> None:
        await conn.execute(f"LISTEN {_NAME}")
        self._bell.hears_others = True
        # what was told while nobody listened is not told again
        self._bell.wake_all()
        try:
            while True:
                async for note in conn.notifies(timeout=_QUIET):
                    self._hear(note.payload)
                await conn.execute("SELECT 1")
        finally:
            self._bell.hears_others = False
            # so that every poll goes over to looking by itself
            self._bell.wake_all()

    def _hear(self, payload: str) -> None:
        with suppress(ValueError, TypeError, KeyError):
            message = json.loads(payload)
            if message["from"] == self._me:
                return
            if _EVERYTHING in message["topics"]:
                self._bell.wake_all()
            else:
                self._bell.wake(*message["topics"])

    async def _send(self, conn: psycopg.AsyncConnection[Any]) -> None:
        await conn.execute("SET synchronous_commit = off")
        while True:
            await self._some.wait()
            self._some.clear()
            topics, self._pending = self._pending, set()
            try:
                await conn.execute(
                    "SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload",
                    [_NAME, list(messages(self._me, topics))],
                )
            except BaseException:
                self._tell(tuple(topics))
                raise


def messages(sender: str, topics: set[str]) -> Iterator[str]:
    """The topics in as few payloads as they fit into."""
    part: list[str] = []
    room = _LARGEST
    for topic in sorted(topics):
        # a payload counts in bytes, and JSON may write one character as six of them
        size = len(json.dumps(topic)) + 2
        if part and size > room:
            yield json.dumps({"from": sender, "topics": part})
            part, room = [], _LARGEST
        part.append(topic if size <= _LARGEST else _EVERYTHING)
        room -= size
    if part:
        yield json.dumps({"from": sender, "topics": part})
