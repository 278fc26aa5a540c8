"""Slots that go round their owners."""

from __future__ import annotations

import asyncio

from sidecar.turns import Turns


def test_who_asks_for_much_waits_behind_who_asks_for_little() -> None:
    async def main() -> list[str]:
        turns, order = Turns(1, lambda: 1), []

        async def one(owner: str) -> None:
            async with turns.turn(owner):
                order.append(owner)
                await asyncio.sleep(0)

        await asyncio.gather(*(one("hog") for _ in range(5)), one("other"), one("third"))
        return order

    assert asyncio.run(main()) == ["hog", "hog", "other", "third", "hog", "hog", "hog"]


def test_no_owner_has_more_than_its_share() -> None:
    async def main() -> int:
        turns, most, held = Turns(8, lambda: 3), 0, 0
        done = asyncio.Event()

        async def one() -> None:
            nonlocal most, held
            async with turns.turn("hog"):
                held += 1
                most = max(most, held)
                await done.wait()
                held -= 1

        tasks = [asyncio.create_task(one()) for _ in range(10)]
        await asyncio.sleep(0)
        async with turns.turn("other"):
            done.set()
        await asyncio.gather(*tasks)
        return most

    assert asyncio.run(main()) == 3


def test_a_place_that_is_given_up_is_nobodys() -> None:
    async def main() -> None:
        turns = Turns(1, lambda: 1)
        async with turns.turn("a"):
            waiting = [asyncio.create_task(turns.take(owner)) for owner in ("b", "b", "c")]
            await asyncio.sleep(0)
            waiting[0].cancel()
        # granted and cancelled in the same step: it goes on to the next
        waiting[1].cancel()
        await asyncio.wait_for(waiting[2], 5)
        turns.give("c")
        async with asyncio.timeout(5), turns.turn("d"):
            pass

    asyncio.run(main())
