"""Checkpoint values come back as they were; what can't be stored is named by key and path."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import uuid
from typing import Any, NamedTuple

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samovar import CheckpointError, NotSerializable
from samovar.payloads import codec


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    y: float = 0.0


@dataclasses.dataclass
class Item:
    sku: str
    parts: list[Item] = dataclasses.field(default_factory=list)
    total: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        self.total += 1  # running this a second time would show


@dataclasses.dataclass(frozen=True)
class Frozen:
    __slots__ = ("n",)
    n: int


class Model(pydantic.BaseModel):
    at: datetime.datetime


def there_and_back(value: Any) -> Any:
    return codec.decode(json.loads(json.dumps(codec.encode(value, "k"))), "k")


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary(max_size=50)
    | st.datetimes(timezones=st.none() | st.just(datetime.UTC))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.sampled_from([Color.RED, Level.LOW])
    | st.builds(Point, st.integers(), st.just(0.5))
    | st.builds(Frozen, st.integers())
)
hashable = st.none() | st.integers() | st.text() | st.binary(max_size=9) | st.uuids()
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.just(codec.TAG), inner, max_size=4)
        | st.sets(hashable, max_size=4)
        | st.frozensets(hashable, max_size=4)
        | st.builds(Item, st.text(), st.just([]))
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(values)
def test_every_value_comes_back_as_it_was(value: Any) -> None:
    back = there_and_back(value)
    assert back == value
    assert type(back) is type(value)


def test_classes_keep_what_they_held() -> None:
    item = Item("tea", [Item("leaf")])
    back = there_and_back(item)
    assert (back.total, back.parts[0].total) == (1, 1)
    assert there_and_back(Model(at="2025-01-31T12:00:00Z")) == Model(at="2025-01-31T12:00:00Z")  # type: ignore[arg-type]
    assert repr(there_and_back([True, 1, 1.0])) == "[True, 1, 1.0]"


def test_a_dataclass_that_has_changed_since_is_filled_up_or_refused() -> None:
    encoded = codec.encode(Item("tea"), "k")
    del encoded[codec.TAG][2]["parts"]
    encoded[codec.TAG][2]["gone"] = 1
    assert codec.decode(encoded, "k").parts == []
    del encoded[codec.TAG][2]["sku"]
    with pytest.raises(CheckpointError, match="has got a field 'sku' since"):
        codec.decode(encoded, "k")
    with pytest.raises(CheckpointError, match="which is not to be found now"):
        codec.decode({codec.TAG: ["dataclass", f"{__name__}:Gone", {}]}, "k")
    with pytest.raises(CheckpointError, match="unknown tag 'future'"):
        codec.decode({codec.TAG: ["future", 1]}, "k")


def test_plain_results_are_json() -> None:
    value = {
        "item": Item("tea"),
        "at": datetime.date(2025, 1, 31),
        "price": decimal.Decimal("1.10"),
        "id": uuid.UUID(int=1),
        "raw": b"\x00\xff",
        "color": Color.RED,
        "level": Level.LOW,
        "set": {3, 1, 2},
        "point": Point(1, 2.0),
        "wait": datetime.timedelta(minutes=1),
        "model": Model(at="2025-01-31T12:00:00Z"),  # type: ignore[arg-type]
        codec.TAG: 1,
    }
    assert codec.plain(value) == {
        "item": {"sku": "tea", "parts": [], "total": 1},
        "at": "2025-01-31",
        "price": "1.10",
        "id": "00000000-0000-0000-0000-000000000001",
        "raw": "AP8=",
        "color": "red",
        "level": 1,
        "set": [1, 2, 3],
        "point": [1, 2.0],
        "wait": 60.0,
        "model": {"at": "2025-01-31T12:00:00Z"},
        codec.TAG: 1,
    }


@dataclasses.dataclass
class Holder:
    items: list[Any]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Holder([1, 2, 3, {"x": float("nan")}]), r"k.items\[3\].x: a float that is not finite \(nan\)"),
        (float("inf"), "k: a float that is not finite"),
        ({"a b": [object()]}, r"k\['a b'\]\[0\]: an object of type object can't be stored"),
        ({1: 2}, r"k: a dict key that is not text \(1, int\)"),
        (["\ud800"], r"k\[0\]: text with a lone surrogate"),
        (print, "call it and store what it returns"),
        pytest.param(1 << 9000, "an integer of .* bits is too large", id="long"),
    ],
)
def test_what_cannot_be_stored_is_named_by_path(value: Any, words: str) -> None:
    for encode in (codec.encode, codec.plain):
        with pytest.raises(NotSerializable, match=words):
            encode(value, "k")


def test_cycles_depth_size_and_local_classes_are_refused() -> None:
    cycle: list[Any] = []
    cycle.append({"again": cycle})
    with pytest.raises(NotSerializable, match=r"k\[0\].again: the value contains itself"):
        codec.encode(cycle, "k")
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(NotSerializable, match="nested more than 100 deep"):
        codec.encode(deep, "k")
    shared = [1]
    assert codec.plain([shared, shared]) == [[1], [1]], "twice the same is no cycle"
    with pytest.raises(NotSerializable, match="at least 50,000,000 bytes are more than the 10,485,760"):
        codec.plain("x" * 50_000_000)
    with pytest.raises(NotSerializable, match="12,000,001 bytes encoded are more than the 10,485,760"):
        codec.plain([1] * 6_000_000)

    @dataclasses.dataclass
    class Local:
        n: int

    assert codec.plain(Local(1)) == {"n": 1}
    with pytest.raises(NotSerializable, match="defined inside a function"):
        codec.encode(Local(1), "k")
