"""The process that replays starts for other sizes of memory: JSON in, figures of each size out.

It is asked once and ends. The coordinator would be held up by it: 20,000 starts take some two seconds of a
processor.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict

from coordinator.confined import REPLAYS
from coordinator.keeping.replay import Call, Replay, Setup, Task

#: Others come first.
_NICE = 10

Figures = dict[str, float]


def request(calls: Sequence[Call], memories: Sequence[int]) -> bytes:
    """What the process reads. `calls` in their order, `memories` in bytes."""
    numbers: dict[Task, int] = {}
    rows = [(call.at, numbers.setdefault(call.task, len(numbers)), call.seconds) for call in calls]
    return json.dumps({"tasks": [asdict(task) for task in numbers], "calls": rows, "memories": memories}).encode()


def answer(asked: bytes) -> list[Figures]:
    """The figures of each memory (`Figures.summary`), by the rules of a runner whose operator has said nothing."""
    given = json.loads(asked)
    tasks = [Task(**task) for task in given["tasks"]]
    calls = [Call(at, tasks[number], seconds) for at, number, seconds in given["calls"]]
    return [Replay(Setup(), memory).run(calls).summary() for memory in given["memories"]]


def main() -> None:
    REPLAYS.enter()
    os.nice(_NICE)
    sys.stdout.write(json.dumps(answer(sys.stdin.buffer.read())))


if __name__ == "__main__":
    main()
