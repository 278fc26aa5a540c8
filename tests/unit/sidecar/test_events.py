"""What containers did, kept for each: no one of them costs another its place, and a poll costs what is new."""

from __future__ import annotations

import asyncio
from typing import Any

from sidecar.events import _KEPT, EventLog


def read(events: EventLog, after: int = 0) -> Any:
    return asyncio.run(events.after(events.boot, after, 0))


def test_one_container_pushes_out_only_its_own_and_the_gap_is_named() -> None:
    events = EventLog()
    events.add("victim", "finished", attempt="a")
    for _ in range(1000):
        events.add("hog", "ready")
    answer = read(events)
    assert [e.container for e in answer.events].count("victim") == 1
    assert len(answer.events) == _KEPT + 1
    assert answer.gaps == ["hog"]
    assert [e.seq for e in answer.events] == sorted(e.seq for e in answer.events)
    assert read(events, answer.next - 1).gaps == []


def test_a_poll_looks_at_what_is_new_and_at_one_more() -> None:
    looked = 0

    class Counted(dict[int, Any]):
        def __getitem__(self, seq: int) -> Any:
            nonlocal looked
            looked += 1
            return super().__getitem__(seq)

    events = EventLog()
    events._events = Counted()
    for n in range(2000):
        events.add(f"c{n % 100}", "ready")
    assert [e.seq for e in read(events, 1997).events] == [1998, 1999, 2000]
    assert looked == 3


def test_what_a_container_said_goes_with_it() -> None:
    events = EventLog()
    for _ in range(_KEPT + 5):
        events.add("gone", "ready")
    events.add("there", "ready")
    events.forget("gone")
    answer = read(events)
    assert ([e.container for e in answer.events], answer.gaps) == (["there"], [])
    assert not events._lost
