"""Who sleeps until something is heard: what wakes it, at once, and that nothing is left of it."""

from __future__ import annotations

import asyncio

from coordinator.signals.waking import Change, Waking


def never() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


def test_it_wakes_within_two_passes_of_the_loop() -> None:
    async def main() -> None:
        waking, passed = Waking(), 0
        with waking.listen("topic") as changed:
            sleeping = asyncio.create_task(changed.heard(3600, never()))
            await asyncio.sleep(0)
            waking.notify("topic")
            while not sleeping.done():
                passed += 1
                await asyncio.sleep(0)
        assert passed <= 2

    asyncio.run(main())


def test_what_was_heard_before_is_not_slept_over() -> None:
    async def main() -> None:
        changed = Change()
        changed.set()
        await asyncio.wait_for(changed.heard(3600, never()), 30)
        changed.clear()
        sleeping = asyncio.create_task(changed.heard(3600, never()))
        await asyncio.sleep(0)
        assert not sleeping.done()
        changed.set()
        await asyncio.wait_for(sleeping, 30)

    asyncio.run(main())


def test_it_wakes_when_the_time_is_up_and_when_its_caller_has_gone() -> None:
    async def main() -> None:
        changed, gone = Change(), never()
        await asyncio.wait_for(changed.heard(0.01, gone), 30)
        sleeping = asyncio.create_task(changed.heard(3600, gone))
        await asyncio.sleep(0)
        gone.set_result(None)
        await asyncio.wait_for(sleeping, 30)
        # and is not begun for one who has gone before
        await asyncio.wait_for(changed.heard(3600, gone), 30)
        assert not changed.is_set()

    asyncio.run(main())


def test_nothing_is_left_of_a_sleep_however_it_ended() -> None:
    async def main() -> None:
        changed, gone = Change(), never()
        for n in range(50):
            sleeping = asyncio.create_task(changed.heard(0.001 if n % 3 == 0 else 3600, gone))
            await asyncio.sleep(0)
            if n % 3 == 1:
                changed.set()
            elif n % 3 == 2:
                sleeping.cancel()
            await asyncio.wait([sleeping], timeout=30)
            assert sleeping.done()
            changed.clear()
        assert changed._sleeping == set()
        assert not gone._callbacks  # type: ignore[attr-defined]

    asyncio.run(main())


def test_several_who_sleep_by_one_change_all_wake() -> None:
    async def main() -> None:
        changed = Change()
        sleeping = [asyncio.create_task(changed.heard(3600, never())) for _ in range(10)]
        await asyncio.sleep(0)
        changed.set()
        done, left = await asyncio.wait(sleeping, timeout=30)
        assert (len(done), len(left)) == (10, 0)

    asyncio.run(main())
