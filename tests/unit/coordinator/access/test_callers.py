"""Whose a key is: looked up once for all who come with it at once, and never from before it was revoked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from coordinator.access.callers import Callers
from coordinator.access.keys import Caller
from coordinator.foundation.errors import Unauthenticated


class Held:
    """Reads of a database that take until they are let go; each finds whatever stands there then."""

    def __init__(self, found: Caller | None) -> None:
        self.found = found
        self.reads = 0
        self.let_go = asyncio.Event()

    async def read(self, look: Any, hashed: str) -> Caller | None:
        self.reads += 1
        found = self.found
        await self.let_go.wait()
        return found


CALLER = Caller("read", None, "key_1")


async def asking(callers: Callers, count: int) -> list[asyncio.Task[Caller]]:
    tasks = [asyncio.ensure_future(callers.find("secret")) for _ in range(count)]
    for _ in range(3):  # until they have asked
        await asyncio.sleep(0)
    return tasks


def test_many_with_one_key_ask_the_database_once() -> None:
    async def run() -> None:
        held = Held(CALLER)
        callers = Callers(held)  # type: ignore[arg-type]
        tasks = await asking(callers, 50)
        tasks[0].cancel()  # whoever came first may go
        held.let_go.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert found[1:] == [CALLER] * 49
        assert await callers.find("secret") == CALLER
        assert held.reads == 1

    asyncio.run(run())


def test_none_of_them_knows_a_key_that_is_not_there() -> None:
    async def run() -> None:
        held = Held(None)
        held.let_go.set()
        callers = Callers(held)  # type: ignore[arg-type]
        found = await asyncio.gather(*await asking(callers, 3), return_exceptions=True)
        assert [type(one) for one in found] == [Unauthenticated] * 3
        held.found = CALLER
        assert await callers.find("secret") == CALLER, "that it was not there is not kept"

    asyncio.run(run())


def test_who_comes_after_a_revocation_is_told_nothing_of_before_it() -> None:
    async def run() -> None:
        held = Held(CALLER)
        callers = Callers(held)  # type: ignore[arg-type]
        (before,) = await asking(callers, 1)
        held.found = None
        callers.forget()
        (after,) = await asking(callers, 1)
        held.let_go.set()
        assert await before == CALLER
        with pytest.raises(Unauthenticated):
            await after
        assert held.reads == 2

    asyncio.run(run())
