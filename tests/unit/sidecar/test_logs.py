"""Lines of the sidecar's own among those of the container."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

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
