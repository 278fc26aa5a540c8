"""Runs that are to be triggered together: their payloads, each with options of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Union

from samovar.errors import OptionError
from samovar.payloads.codec import plain

#: Most items of one batch.
MOST_ITEMS = 1000

#: The options of one trigger.
OPTIONS = (
    "idempotency_key",
    "idempotency_ttl",
    "delay",
    "ttl",
    "priority",
    "concurrency_key",
    "tags",
    "memory",
    "version",
    "debounce",
)


class Item:
    """One run of a batch: its payload (keyword arguments), and options of `Client.trigger` for it alone.

    Raises OptionError for an option that a trigger doesn't have.
    """

    __slots__ = ("options", "payload")

    def __init__(self, payload: Mapping[str, Any] | None = None, **options: Any) -> None:
        for name in options:
            if name not in OPTIONS:
                raise OptionError(f"Item({name}=...): unknown; known are {', '.join(OPTIONS)}")
        self.payload = dict(payload or {})
        self.options = options

    def __repr__(self) -> str:
        return f"Item({', '.join([repr(self.payload), *(f'{n}={v!r}' for n, v in self.options.items())])})"


#: A key and how long it has to be quiet; a third value is the longest that a run is put off.
Debounce = Union[tuple[str, Union[float, str]], tuple[str, Union[float, str], Union[float, str]], dict[str, Any]]

#: What a batch is made of.
Items = Iterable[Union[Item, Mapping[str, Any]]]


def trigger_body(
    payload: Mapping[str, Any] | None, options: Mapping[str, Any], path: str = "payload"
) -> dict[str, Any]:
    """A trigger as it is sent: the payload as JSON, and the options that are given."""
    body = {name: value for name, value in options.items() if value is not None}
    if "tags" in body:
        body["tags"] = list(body["tags"])
    if "debounce" in body:
        body["debounce"] = debounce_body(body["debounce"])
    body["payload"] = plain(dict(payload or {}), path)
    return body


def batch_body(
    items: Items,
    idempotency_key: str | None,
    options: Mapping[str, Any],
    idempotency_ttl: float | str | None = None,
) -> dict[str, Any]:
    """A batch as it is sent; an item's own options come before `options`. Raises OptionError, NotSerializable."""
    bodies = []
    for n, item in enumerate(items):
        if not isinstance(item, (Item, Mapping)):
            raise OptionError(f"items[{n}] is {item!r:.80}: give a payload (a dict), or samovar.Item(payload, ...)")
        item = item if isinstance(item, Item) else Item(item)
        bodies.append(trigger_body(item.payload, {**options, **item.options}, f"items[{n}].payload"))
    if not 1 <= len(bodies) <= MOST_ITEMS:
        raise OptionError(f"a batch of {len(bodies)} items: give from 1 to {MOST_ITEMS}")
    body: dict[str, Any] = {"items": bodies}
    if idempotency_key is not None:
        body["idempotency_key"] = idempotency_key
    if idempotency_ttl is not None:
        body["idempotency_ttl"] = idempotency_ttl
    return body


def debounce_body(value: Any) -> dict[str, Any]:
    """`("key", "5s")`, `("key", "5s", "1m")` or `{"key", "delay", "max_delay"}` as it is sent."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) in (2, 3):
        return dict(zip(("key", "delay", "max_delay"), value))
    raise OptionError(
        f'debounce={value!r}: give a key and how long it has to be quiet, such as ("key", "5s"); a third '
        "value is the longest that a run is put off"
    )
