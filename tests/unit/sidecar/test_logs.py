"""Lines of the sidecar's own among those of the container."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sidecar import logs
from sidecar.logs import Budget, LogStream


def run(
    test: Callable[[LogStream, list[dict[str, Any]]], Coroutine[Any, Any, None]], *, resumed: bool = False
) -> None:
    async def main() -> None:
        sent: list[dict[str, Any]] = []

        async def send(lines: list[bytes]) -> None:
            sent.extend(json.loads(line) for line in lines)

        stream = LogStream(send, asyncio.Event(), Budget(2**20), resumed=resumed)
        await test(stream, sent)
        await stream.drained()
        stream.close()

    asyncio.run(main())


def lines(*numbers: int, **more: Any) -> list[bytes]:
    return [
        json.dumps(
            [
                {"seq": n, "at": 1.0, "level": "info", "stream": "stdout", "message": f"line {n}", **more}
                for n in numbers
            ]
        ).encode()
    ]


def test_own_lines_come_after_those_that_were_said_before_them() -> None:
    async def test(stream: LogStream, sent: list[dict[str, Any]]) -> None:
        stream.say("info", "samovar.egress", "before all")
        await stream.add(lines(1, 2))
        stream.say("info", "samovar.egress", "first")
        stream.say("warning", "samovar.egress", "second")
        await stream.add(lines(3))
        await stream.drained()
        told = [line["message"] for line in sorted(sent, key=lambda line: line["seq"])]
        assert told == ["before all", "line 1", "line 2", "first", "second", "line 3"]
        assert sent == sorted(sent, key=lambda line: line["seq"])
        assert {line["stream"] for line in sent if line.get("logger")} == {"samovar"}

    run(test)


def test_a_line_that_comes_again_has_the_same_number_and_so_has_what_it_replaces() -> None:
    async def test(stream: LogStream, sent: list[dict[str, Any]]) -> None:
        await stream.add(lines(7, partial=True))
        await stream.add(lines(8, replaces=7))
        await stream.add(lines(7, partial=True))
        await stream.drained()
        assert sent[0] == sent[2]
        assert sent[1]["replaces"] == sent[0]["seq"]

    run(test)


def test_after_a_restart_own_lines_wait_until_the_container_has_said_where_it_is() -> None:
    async def test(stream: LogStream, sent: list[dict[str, Any]]) -> None:
        stream.say("info", "samovar.egress", "early")
        assert sent == []
        await stream.add(lines(41))
        await stream.drained()
        assert [line["message"] for line in sorted(sent, key=lambda line: line["seq"])] == ["line 41", "early"]

    run(test, resumed=True)


def test_after_a_restart_they_are_said_at_the_end_in_any_case() -> None:
    async def test(stream: LogStream, sent: list[dict[str, Any]]) -> None:
        for _ in range(1000):
            stream.say("info", "samovar.egress", "early")
        await stream.drained()
        assert [line["message"] for line in sent] == ["early"] * 256
        assert len({line["seq"] for line in sent}) == 256

    run(test, resumed=True)


def test_own_lines_between_two_of_the_container_are_not_without_end() -> None:
    async def test(stream: LogStream, sent: list[dict[str, Any]]) -> None:
        for _ in range(3000):
            stream.say("info", "samovar.egress", "x")
        await stream.add(lines(1))
        await stream.drained()
        assert len(sent) <= 1024
        assert max(line["seq"] for line in sent) == 1024

    run(test)


def test_of_several_projects_each_sends_small_batches() -> None:
    async def sizes(projects: int) -> list[int]:
        sent: list[int] = []
        hold = asyncio.Event()

        async def send(batch: list[bytes]) -> None:
            sent.append(sum(map(len, batch)))
            await hold.wait()

        stream = LogStream(send, asyncio.Event(), Budget(2**22, lambda: projects))
        adding = asyncio.create_task(stream.add(lines(*range(1, 61), message="x" * 8000)))
        for _ in range(100):
            await asyncio.sleep(0)
        hold.set()
        await adding
        stream.close()
        return sent

    alone, shared = asyncio.run(sizes(1)), asyncio.run(sizes(2))
    assert sum(alone) == sum(shared)
    assert max(shared) <= logs._BATCH_BYTES_SHARED < max(alone)


def test_of_several_projects_each_has_a_pace() -> None:
    projects = 1
    budget = Budget(2**20, lambda: projects, clock=lambda: 0.0)
    rate, burst = logs._PACE_SHARED
    assert budget.pause("hog", 100 * burst) == 0
    projects = 2
    # what went while nobody else was there is not held against it
    assert budget.pause("hog", burst) == 0
    assert budget.pause("hog", int(rate)) == pytest.approx(1)
    assert budget.pause("other", burst) == 0


def test_lines_are_sent_on_when_the_pause_is_over_and_their_sender_hears_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        sent: list[bytes] = []
        pauses: list[asyncio.Future[None]] = []

        async def send(batch: list[bytes]) -> None:
            sent.extend(batch)

        class Paced(Budget):
            def pause(self, project: str, size: int) -> float:
                return 1.0 if project == "hog" else 0.0

        stream = LogStream(send, asyncio.Event(), Paced(2**20), project="hog")
        sleep = asyncio.sleep

        async def paused(seconds: float) -> None:
            if seconds:
                pauses.append(asyncio.get_running_loop().create_future())
                await pauses[-1]
            else:
                await sleep(0)

        monkeypatch.setattr(logs.asyncio, "sleep", paused)
        await stream.add(lines(1))
        adding = asyncio.create_task(stream.add(lines(2)))
        for _ in range(20):
            await sleep(0)
        assert (len(sent), len(pauses), adding.done()) == (1, 1, False)
        pauses[0].set_result(None)
        await adding
        assert len(sent) == 2
        stream.close()

    asyncio.run(main())
