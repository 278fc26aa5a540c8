"""Queue and Item: what they take, and what they say to what they don't."""

from __future__ import annotations

from typing import Any

import pytest
from samovar import Item, OptionError, Queue, task
from samovar.calling.items import batch_body, trigger_body


def test_a_queue_is_described_with_everything_resolved() -> None:
    assert Queue("orders", concurrency=10, rate="100/m", rate_excess="refuse").describe() == {
        "name": "orders",
        "concurrency": 10,
        "per_key": None,
        "rate": {"limit": 100, "period": 60.0},
        "rate_excess": "refuse",
        "on_full": "queue",
    }
    assert Queue("a", rate="5/s") == Queue("a", rate="5/1s")
    assert Queue("a", rate="5/s") != Queue("a", rate="5/m")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": ""}, "Queue(name='')"),
        ({"name": "task/own"}, "give 1 to 128 letters"),
        (
            {"concurrency": 0},
            "Queue(concurrency=0): give a whole number from 1 to 1000000, or None; to let nothing start",
        ),
        ({"concurrency": 2.5}, "Queue(concurrency=2.5)"),
        ({"concurrency": True}, "Queue(concurrency=True)"),
        ({"per_key": -1}, "Queue(per_key=-1)"),
        ({"rate": "fast"}, "Queue(rate='fast'): give runs per time, such as \"5/s\""),
        ({"rate": 5}, "Queue(rate=5)"),
        ({"rate": "0/s"}, "from 1 to 100000 runs"),
        ({"rate": "5/0s"}, "at most 31 days"),
        ({"rate_excess": "drop", "rate": "5/s"}, "Queue(rate_excess='drop'): give 'wait' or 'refuse'"),
        ({"rate_excess": "refuse"}, "is about a rate"),
        ({"on_full": "drop", "concurrency": 1}, "Queue(on_full='drop'): give 'queue' or 'skip' or"),
        ({"on_full": "skip"}, "a queue without a limit is never full"),
    ],
)
def test_what_makes_no_queue_is_named_with_what_would(given: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError) as refused:
        Queue(**{"name": "q", **given})
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"queue": 5}, "queue=5: give Queue(name"),
        ({"queue": {"name": "q", "concurency": 1}}, "queue.concurency is unknown: did you mean 'concurrency'?"),
        ({"queue": {"concurrency": 1}}, "the name is missing"),
        ({"concurrency_key": "a..b"}, "concurrency_key='a..b'"),
        ({"concurrency_key": 5}, "concurrency_key=5: give the name of a payload field"),
    ],
)
def test_task_options_that_are_wrong(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError) as refused:
        task(id="wrong", **options)(lambda: None)
    assert words in str(refused.value)


def test_a_batch_as_it_is_sent() -> None:
    items = [{"n": 1}, Item({"n": 2}, tags=("a",), delay="5s", debounce=("k", "5s"))]
    assert batch_body(items, "key", {"priority": 3, "delay": "1s", "memory": None}) == {
        "items": [
            {"priority": 3, "delay": "1s", "payload": {"n": 1}},
            {
                "priority": 3,
                "delay": "5s",
                "tags": ["a"],
                "debounce": {"key": "k", "delay": "5s"},
                "payload": {"n": 2},
            },
        ],
        "idempotency_key": "key",
    }


def test_what_makes_no_batch() -> None:
    for items in ([], [{}] * 1001):
        with pytest.raises(OptionError, match="give from 1 to 1000"):
            batch_body(items, None, {})
    with pytest.raises(OptionError, match=r"items\[1\] is 5: give a payload"):
        batch_body([{}, 5], None, {})  # type: ignore[list-item]
    with pytest.raises(OptionError, match=r"Item\(prio=\.\.\.\): unknown"):
        Item({}, prio=1)


def test_debounce_as_it_is_sent() -> None:
    assert trigger_body({}, {"debounce": ("k", 5, "1m")})["debounce"] == {"key": "k", "delay": 5, "max_delay": "1m"}
    for wrong in ("k", ("k",), 5):
        with pytest.raises(OptionError, match="give a key and how long"):
            trigger_body({}, {"debounce": wrong})
