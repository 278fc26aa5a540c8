"""What containers did, kept for each until it was acted on: no one of them costs another its place."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from sidecar.events import _KEPT, EventLog


def test_one_container_pushes_out_only_its_own_and_leaves_word_of_it() -> None:
    events = EventLog()
    events.add("victim", "finished", attempt="a")
    for _ in range(1000):
        events.add("hog", "ready")
    kept = events.after(0)
    assert [e.container for e in kept].count("victim") == 1
    assert len(kept) == _KEPT + 1
    assert [(e.container, e.kind) for e in kept[:2]] == [("victim", "finished"), ("hog", "gap")]
    assert [e.kind for e in kept].count("gap") == 1
    # between it and the first that is there nothing is missing
    assert kept[2].seq == kept[1].seq + 1
    assert [e.seq for e in kept] == sorted(e.seq for e in kept)


class Counted(OrderedDict[int, Any]):
    """Counts what is looked at."""

    looked = 0

    def __getitem__(self, seq: int) -> Any:
        Counted.looked += 1
        return super().__getitem__(seq)

    def __delitem__(self, seq: int) -> None:
        Counted.looked += 1
        super().__delitem__(seq)


def test_an_event_costs_the_same_however_many_there_were_before_it() -> None:
    def work(first: int) -> int:
        """Of a thousand events that are read and acknowledged as they come, after `first` others."""
        events = EventLog()
        events._events = Counted()
        seen = 0
        for n in range(first + 1000):
            if n == first:
                Counted.looked = 0
            events.add(f"c{n % 7}", "ready")
            for event in events.after(seen):
                seen = event.seq
            if n % 5 == 4:
                events.acknowledge(seen)
        assert len(events._events) < 5
        return Counted.looked

    assert work(0) == work(20_000) == 2000


def test_what_is_acknowledged_is_gone_and_the_rest_is_said_again() -> None:
    events = EventLog()
    for n in range(10):
        events.add(f"c{n % 3}", "ready")
    events.acknowledge(7)
    assert [e.seq for e in events.after(0)] == [8, 9, 10]
    events.acknowledge(7)
    events.acknowledge(10)
    assert events.after(0) == []
    assert not events._of
    events.add("c1", "ready")
    assert [e.seq for e in events.after(10)] == [11]


def test_what_a_container_said_goes_with_it() -> None:
    events = EventLog()
    for _ in range(_KEPT + 5):
        events.add("gone", "ready")
    events.add("there", "ready")
    events.forget("gone")
    assert [(e.container, e.kind) for e in events.after(0)] == [("there", "ready")]
    assert "gone" not in events._of
