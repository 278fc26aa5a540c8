"""What is asked together travels together, in turns, and in the order of each attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from sidecar.batches import Answer, Batches, Item


@dataclass
class Way:
    """The batches that were sent; they land when a test says so."""

    sent: list[list[Item]] = field(default_factory=list)
    landing: list[asyncio.Event] = field(default_factory=list)
    projects: int = 1
    #: Actions that are to be sent as calls of their own.
    alone: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.went = asyncio.Event()
        self.be_patient(60)

    def be_patient(self, seconds: float) -> None:
        self.batches = Batches(self.carry, lambda: self.projects, patience=seconds)

    async def carry(self, batch: list[Item]) -> None:
        event = asyncio.Event()
        self.sent.append(batch)
        self.went.set()
        self.landing.append(event)
        await event.wait()
        for item in batch:
            item.answer(None if item.action in self.alone else Answer(200, item.body))

    def ask(
        self, attempt: str, action: str = "report", body: bytes = b"{}", project: str = "p"
    ) -> asyncio.Task[Any]:
        return asyncio.create_task(self.batches.ask(Item(project, attempt, action, "s", body)))

    def names(self) -> list[list[str]]:
        return [[f"{item.attempt} {item.action}" for item in batch] for batch in self.sent]


async def steps() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


def run(test: Callable[[Way], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        await test(Way())

    asyncio.run(main())


def test_an_idle_way_is_taken_at_once_and_a_busy_one_makes_batches_by_itself() -> None:
    async def test(way: Way) -> None:
        asked = [way.ask(f"a{n}") for n in range(3)]
        await steps()
        assert [len(batch) for batch in way.sent] == [3]
        for n in range(3, 100):
            asked.append(way.ask(f"a{n}"))
            await steps()
        # one more went at once, and the other 96 wait for a way
        assert [len(batch) for batch in way.sent] == [3, 1]
        for number in range(4):
            way.landing[number].set()
            await steps()
        assert [len(batch) for batch in way.sent] == [3, 1, 64, 32]
        assert all(answer == Answer(200, b"{}") for answer in await asyncio.gather(*asked))

    run(test)


def test_of_one_attempt_one_batch_is_on_its_way() -> None:
    async def test(way: Way) -> None:
        way.ask("a", "checkpoint")
        await steps()
        for action in ("logs", "report", "finish"):
            way.ask("a", action)
            await steps()
        way.ask("b")
        await steps()
        assert way.names() == [["a checkpoint"], ["b report"]]
        way.landing[0].set()
        await steps()
        assert way.names()[2:] == [["a logs", "a report", "a finish"]]

    run(test)


def test_an_end_goes_along_with_a_start_that_waits_and_after_one_that_is_sent() -> None:
    async def test(way: Way) -> None:
        for attempt in ("x", "y"):
            way.ask(attempt)
            await steps()
        for attempt in ("a", "b"):
            way.batches.starts(attempt)
        way.ask("a", "start")
        way.ask("a", "finish")
        way.ask("b", "start")
        await steps()
        way.landing[0].set()
        await steps()
        assert way.names()[2:] == [["a start", "b start", "a finish"]]
        way.ask("b", "finish")
        way.landing[1].set()
        await steps()
        assert len(way.sent) == 3

    run(test)


def test_a_start_waits_for_company_but_not_for_long() -> None:
    async def test(way: Way) -> None:
        way.ask("a", "start")
        way.ask("b", "start")
        await steps()
        assert way.names() == []
        # its own end, a word of anybody else's, or somebody who waits for it
        way.ask("a", "finish")
        await steps()
        assert way.names() == [["a start", "b start", "a finish"]]
        way.ask("c", "start")
        await steps()
        way.ask("d", "report")
        await steps()
        assert way.names()[1:] == [["c start", "d report"]]
        way.landing[0].set()
        await steps()
        way.ask("e", "start")
        way.batches.starts("e")
        await steps()
        waiting = asyncio.create_task(way.batches.begun("e"))
        await steps()
        assert way.names()[2:] == [["e start"]]
        waiting.cancel()

    run(test)


def test_a_start_that_nobody_joins_goes_alone() -> None:
    async def test(way: Way) -> None:
        way.be_patient(0.01)
        way.ask("a", "start")
        await asyncio.wait_for(way.went.wait(), 30)
        assert way.names() == [["a start"]]

    run(test)


def test_nothing_passes_a_start_that_is_sent_as_a_call_of_its_own() -> None:
    async def test(way: Way) -> None:
        way.alone = frozenset({"start"})
        way.be_patient(0)
        started = way.batches.starts("a")
        start = way.ask("a", "start")
        await steps()
        way.ask("a", "finish")
        large = asyncio.create_task(way.batches.begun("a"))
        way.landing[0].set()
        await steps()
        assert start.result() is None
        assert (len(way.sent), large.done()) == (1, False)
        started()
        await steps()
        assert way.names() == [["a start"], ["a finish"]]
        assert large.done()

    run(test)


def test_each_project_has_a_batch_of_its_own_on_its_way() -> None:
    async def test(way: Way) -> None:
        way.projects = 2
        for n in range(100):
            way.ask(f"flood{n % 4}", project="flood")
        await steps()
        assert [len(batch) for batch in way.sent] == [24]
        # nothing of the flood's has landed
        for _ in range(2):
            way.ask("a", project="victim")
        way.ask("b", project="victim")
        await steps()
        assert way.names()[1:] == [["a report", "b report", "a report"]]
        way.landing[1].set()
        await steps()
        way.ask("a", project="victim")
        await steps()
        assert way.names()[2:] == [["a report"]]
        way.landing[0].set()
        await steps()
        assert [{item.project for item in batch} for batch in way.sent[3:]] == [{"flood"}]

    run(test)


def test_turns_go_round_the_projects_and_within_each_its_attempts() -> None:
    async def test(way: Way) -> None:
        way.projects = 12
        for n in range(12):
            for attempt in ("a", "b", "a"):
                way.ask(f"{attempt}{n}", project=f"p{n}")
        await steps()
        assert way.names() == [[f"a{n} report", f"b{n} report", f"a{n} report"] for n in range(8)]
        way.ask("a0", project="p0")
        for landing in list(way.landing):
            landing.set()
        await steps()
        # those that have not had a turn come before the one that asks again
        assert [batch[0].project for batch in way.sent[8:]] == ["p8", "p9", "p10", "p11", "p0"]

    run(test)


def test_a_batch_has_so_many_bytes() -> None:
    async def test(way: Way) -> None:
        for attempt in ("x", "y"):
            way.ask(attempt)
            await steps()
        for n in range(20):
            way.ask(f"a{n}", body=b"x" * 60_000)
        await steps()
        way.landing[0].set()
        way.landing[1].set()
        await steps()
        assert all(sum(len(item.body) for item in batch) <= 512 * 1024 for batch in way.sent)
        assert [len(batch) for batch in way.sent[2:]] == [8, 8]

    run(test)


def test_who_gives_up_is_left_out_and_what_is_not_answered_is_sent_alone() -> None:
    async def test(way: Way) -> None:
        for attempt in ("x", "y"):
            way.ask(attempt)
            await steps()
        gone, stays = way.ask("a"), way.ask("b", "wait")
        way.alone = frozenset({"wait"})
        await steps()
        gone.cancel()
        await steps()
        way.landing[0].set()
        await steps()
        assert way.names()[2:] == [["b wait"]]
        way.landing[2].set()
        assert await stays is None

    run(test)
