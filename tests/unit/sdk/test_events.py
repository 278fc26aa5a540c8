"""Event and on_event: what they take, and what they say to what they don't."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from samovar import Event, OptionError, task
from samovar.declare.events import OPERATORS

from coordinator.tasks import where as filters


def test_an_event_is_described_as_json() -> None:
    event = Event(
        "order.paid",
        where={"amount": {"gt": 9.5, "in": (1, 2)}, "day": {"lt": date(2027, 1, 1)}, "customer.country": "DE"},
    )
    assert event.describe() == {
        "name": "order.paid",
        "where": {"amount": {"gt": 9.5, "in": [1, 2]}, "day": {"lt": "2027-01-01"}, "customer.country": "DE"},
    }
    assert Event("order.paid").describe() == {"name": "order.paid", "where": None}
    assert repr(Event("a", where={"b": 1})) == "Event('a', where={'b': 1})"


def test_sdk_and_coordinator_have_the_same_operators() -> None:
    assert OPERATORS == filters.OPERATORS


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": ""}, "Event(name='')"),
        ({"name": "order paid"}, "give 1 to 256 letters"),
        ({"name": 3}, "Event(name=3)"),
        ({"where": []}, "Event(where=[])"),
        ({"where": {"": 1}}, "Event(where=...): '' is no path"),
        ({"where": {"a": {}}}, "Event(where={'a': ...}): no operator"),
        (
            {"where": {"amount": {"above": 3}}},
            "Event(where={'amount': ...}): 'above' is no operator; give one of gt, gte, lt, lte, ne, in, exists",
        ),
        ({"where": {"a": {"exists": 1}}}, "exists takes True or False, not 1"),
        ({"where": {"a": {"in": "abc"}}}, "in takes a list of values, not 'abc'"),
        ({"where": {"a": {"gt": True}}}, "gt takes a number or a text, not True"),
        ({"where": {"a": {"gt": Decimal(1)}}}, "gt takes a number or a text"),
        ({"where": {str(n): n for n in range(51)}}, "50 at most"),
    ],
)
def test_what_is_wrong_is_said_with_its_value(given: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError) as error:
        Event(**{"name": "order.paid", **given})
    assert words in str(error.value)


def test_a_task_takes_one_or_several() -> None:
    def ship() -> None: ...

    one = task(on_event=Event("a"))(ship)
    several = task(id="several", on_event=[Event("a"), Event("b", where={"c": 1})])(ship)
    assert one.options["on_event"] == [{"name": "a", "where": None}]
    assert [event["name"] for event in several.options["on_event"]] == ["a", "b"]
    for wrong in ("order.paid", [], [Event("a"), "b"]):
        with pytest.raises(OptionError, match=r"on_event=.*from samovar import Event"):
            task(on_event=wrong)(ship)  # type: ignore[arg-type]
