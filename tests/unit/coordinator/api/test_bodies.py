"""Of several projects that send bodies each has so many carried out at a time, and nobody waits for another's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from coordinator.api.bodies import ROOM, Bodies, Turn

LARGE = 200_000
#: That takes all of the room, and no more.
ALL = (ROOM - 1) * 16 * 1024


class Line:
    """Bodies on their way: what is being carried out, in the order in which it began."""

    def __init__(self) -> None:
        self.now = 0.0
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.bodies = Bodies(lambda: self.now, lambda seconds, call: self.later.append((seconds, call)))
        self.begun: list[str] = []
        self.turns: list[tuple[str, Turn]] = []

    def send(self, line: str, size: int = LARGE) -> asyncio.Task[None]:
        async def one() -> None:
            turn = await self.bodies.take(line, size)
            self.begun.append(line)
            if turn is not None:
                self.turns.append((line, turn))

        return asyncio.create_task(one())

    def end(self, line: str) -> None:
        """The first that is being carried out of this line."""
        found = next(each for each in self.turns if each[0] == line)
        self.turns.remove(found)
        self.bodies.give(found[1])

    def rested(self) -> float:
        """Passes the time that somebody rests for; how long that is."""
        ((seconds, call),) = self.later
        self.later.clear()
        self.now += seconds
        call()
        return seconds

    def count(self, line: str) -> int:
        return sum(each[0] == line for each in self.turns)


async def steps() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def run(test: Callable[[Line], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(_of(test))


async def _of(test: Callable[[Line], Coroutine[Any, Any, None]]) -> None:
    await test(Line())


def test_who_is_alone_is_not_held_up() -> None:
    async def test(line: Line) -> None:
        for _ in range(20):
            line.send("project:a")
        await steps()
        assert line.count("project:a") == 20

    run(test)


def test_a_key_that_sees_all_projects_is_nobody_to_share_with() -> None:
    async def test(line: Line) -> None:
        for _ in range(20):
            line.send("key:admin")
            line.send("attempts:a")
        await steps()
        assert (line.begun.count("key:admin"), line.count("attempts:a")) == (20, 20)

    run(test)


def test_of_several_each_has_one_large_body_or_a_few_small_ones() -> None:
    async def test(line: Line) -> None:
        line.send("project:quiet", 10)
        await steps()
        for _ in range(5):
            line.send("project:hog")
        for _ in range(9):
            line.send("project:small", 100)
        await steps()
        assert (line.count("project:hog"), line.count("project:small")) == (1, ROOM)
        line.send("project:quiet", 10)
        await steps()
        assert line.count("project:quiet") == 2
        for n in range(5):
            assert len([name for name in line.begun if name == "project:hog"]) == n + 1
            line.end("project:hog")
            await steps()

    run(test)


def test_what_a_projects_attempts_say_counts_with_what_its_keys_send_and_they_go_round() -> None:
    async def test(line: Line) -> None:
        line.send("project:quiet", 10)
        for _ in range(4):
            line.send("project:hog")
        for _ in range(2):
            line.send("attempts:hog", 100)
        await steps()
        for _ in range(5):
            running = [name for name, _ in line.turns if name != "project:quiet"]
            assert running.count("project:hog") <= 1
            assert len(set(running)) == 1
            line.end(running[0])
            await steps()
        began = [name for name in line.begun if name != "project:quiet"]
        assert began[1:5] == ["project:hog", "attempts:hog"] * 2

    run(test)


def test_when_the_others_are_gone_the_rest_goes_on_together() -> None:
    async def test(line: Line) -> None:
        line.send("project:quiet", 10)
        for _ in range(5):
            line.send("project:hog")
        await steps()
        line.end("project:quiet")
        line.now += 0.2
        line.end("project:hog")
        await steps()
        # somebody was here a moment ago
        line.rested()
        await steps()
        assert line.count("project:hog") == 1
        line.now += 10
        line.end("project:hog")
        await steps()
        assert line.count("project:hog") == 3

    run(test)


@pytest.mark.parametrize(("size", "times"), [(ALL, 3), (2 * ALL, 6), (LARGE, 7), (100 * LARGE, 7)])
def test_who_had_all_of_its_room_rests_so_many_times_as_long(size: int, times: int) -> None:
    async def test(line: Line) -> None:
        line.now = 1000.0
        line.send("project:quiet", 10)
        for _ in range(4):
            line.send("project:hog", size)
        await steps()
        # once it is used up what it had saved
        line.now += 0.1
        line.end("project:hog")
        await steps()
        line.rested()
        await steps()
        for _ in range(2):
            line.now += 0.5
            line.end("project:hog")
            await steps()
            assert line.count("project:hog") == 0
            assert line.rested() == pytest.approx(times * 0.5)
            await steps()
            assert line.count("project:hog") == 1

    run(test)


def test_one_small_body_after_the_other_never_rests() -> None:
    async def test(line: Line) -> None:
        line.now = 1000.0
        line.send("project:hog")
        for n in range(50):
            line.send("project:quiet", 10)
            await steps()
            line.now += 0.5
            line.end("project:quiet")
            assert line.begun.count("project:quiet") == n + 1
        assert line.later == []

    run(test)


def test_who_is_alone_never_rests() -> None:
    async def test(line: Line) -> None:
        line.now = 1000.0
        for n in range(20):
            line.send("project:a")
            await steps()
            line.now += 0.5
            line.end("project:a")
            assert len(line.begun) == n + 1

    run(test)


def test_a_place_that_is_given_up_is_passed_over_and_nothing_is_kept() -> None:
    async def test(line: Line) -> None:
        line.send("project:quiet", 10)
        sent = [line.send("project:hog") for _ in range(3)]
        await steps()
        sent[1].cancel()
        line.end("project:hog")
        # granted and given up in the same step
        sent[2].cancel()
        await steps()
        line.end("project:quiet")
        assert not line.bodies._projects

    run(test)
