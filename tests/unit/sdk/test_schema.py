"""Payloads against annotations: what is accepted, what it becomes, and that the JSON Schema agrees."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, NotRequired, Optional, TypedDict, Union

import pydantic
import pytest
from jsonschema import Draft202012Validator
from samovar import InvalidPayload, OptionError
from samovar.payloads.signature import Signature


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Item:
    sku: str
    count: int = 1
    parts: list[Item] = dataclasses.field(default_factory=list)


class Address(TypedDict):
    city: str
    zip: NotRequired[str]


class Point(NamedTuple):
    x: int
    y: float = 0.0


class Model(pydantic.BaseModel):
    n: int
    inner: list[Model] = []


def of(annotation: Any) -> Signature:
    def function(v): ...  # type: ignore[no-untyped-def]

    function.__annotations__["v"] = annotation
    return Signature("t", function)


GOOD: list[tuple[Any, Any, Any]] = [
    (int, 1, 1),
    (int, 1.0, 1),
    (float, 1, 1.0),
    (str, "x", "x"),
    (bool, True, True),
    (None, None, None),
    (Any, {"a": [1]}, {"a": [1]}),
    (list[int], [1, 2], [1, 2]),
    (list, [1, "x"], [1, "x"]),
    (Sequence[int], [1], [1]),
    (tuple[int, str], [1, "x"], (1, "x")),
    (tuple[int, ...], [1, 2, 3], (1, 2, 3)),
    (set[int], [1, 2], {1, 2}),
    (frozenset[str], ["a"], frozenset("a")),
    (dict[str, int], {"a": 1}, {"a": 1}),
    (Optional[int], None, None),  # noqa: UP045
    (Union[int, str], "1", "1"),  # noqa: UP007 (both ways of writing it)
    (float | int, 1, 1),
    (datetime.datetime | str, "not a date", "not a date"),
    (Literal["a", 1], 1, 1),
    (Color, "red", Color.RED),
    (
        Item,
        {"sku": "a", "parts": [{"sku": "b", "count": 2}]},
        Item("a", 1, [Item("b", 2)]),
    ),
    (Address, {"city": "Tula"}, {"city": "Tula"}),
    (Point, [1, 2], Point(1, 2.0)),
    (Point, {"x": 1}, Point(1, 0.0)),
    (datetime.datetime, "2025-01-31T12:00:00Z", datetime.datetime(2025, 1, 31, 12, tzinfo=datetime.UTC)),
    (datetime.date, "2025-01-31", datetime.date(2025, 1, 31)),
    (datetime.time, "12:30:00", datetime.time(12, 30)),
    (datetime.timedelta, 1.5, datetime.timedelta(seconds=1.5)),
    (decimal.Decimal, "1.10", decimal.Decimal("1.10")),
    (decimal.Decimal, 1.1, decimal.Decimal("1.1")),
    (uuid.UUID, "00000000-0000-0000-0000-000000000001", uuid.UUID(int=1)),
    (bytes, "AP8=", b"\x00\xff"),
    (Model, {"n": 1, "inner": [{"n": 2}]}, Model(n=1, inner=[Model(n=2)])),
]


@pytest.mark.parametrize(("annotation", "given", "made"), GOOD, ids=lambda value: str(value)[:40])
def test_what_fits_is_converted(annotation: Any, given: Any, made: Any) -> None:
    signature = of(annotation)
    (bound,) = signature.bind({"v": given}).args
    assert bound == made
    assert type(bound) is type(made)
    Draft202012Validator.check_schema(signature.schema())
    Draft202012Validator(signature.schema()).validate({"v": given})


BAD: list[tuple[Any, Any, str, str]] = [
    (int, True, "v", "expected an integer, got true"),
    (int, 1.5, "v", "expected an integer, got 1.5"),
    (int, "1", "v", "expected an integer, got text ('1')"),
    (float, "1", "v", "expected a finite number"),
    (float, True, "v", "expected a finite number"),
    (str, 1, "v", "expected text, got 1"),
    (bool, 1, "v", "expected true or false, got 1"),
    (list[int], [1, "x"], "v[1]", "expected an integer"),
    (list[int], {"a": 1}, "v", "expected a list"),
    (tuple[int, str], [1], "v", "expected a list of 2 items"),
    (dict[str, int], {"a": "x"}, "v.a", "expected an integer"),
    (int | None, "x", "v", "expected an integer or null"),
    (Literal["a", 1], True, "v", "expected one of 'a', 1, got true"),
    (Color, "blue", "v", "expected one of 'red'"),
    (Item, {"sku": "a", "parts": [{"sku": 1}]}, "v.parts[0].sku", "expected text"),
    (Item, {"sku": "a", "extra": 1}, "v.extra", "unknown; known are sku, count, parts"),
    (Item, {}, "v.sku", "missing"),
    (Item | None, {"sku": 1}, "v.sku", "expected text"),
    (Address, {"zip": "1"}, "v.city", "missing"),
    (Point, [1, 2, 3], "v", "expected a list or an object (Point)"),
    (bytes, "not base64!", "v", "expected bytes as base64 text"),
    (decimal.Decimal, "NaN", "v", "expected a decimal number"),
    (Model, {"n": "x"}, "v.n", "valid integer"),
]


@pytest.mark.parametrize(("annotation", "given", "path", "words"), BAD, ids=lambda value: str(value)[:40])
def test_what_does_not_fit_is_named(annotation: Any, given: Any, path: str, words: str) -> None:
    signature = of(annotation)
    with pytest.raises(InvalidPayload) as caught:
        signature.bind({"v": given})
    assert caught.value.fields[0]["path"] == path
    assert words in caught.value.fields[0]["message"]


#: Values that only the run refuses: JSON Schema has no word for what is wrong with them.
TOLD_IN_THE_RUN = ("not base64!", "NaN")
TOLD_AT_TRIGGER = [(annotation, given) for annotation, given, _, _ in BAD if given not in TOLD_IN_THE_RUN]


@pytest.mark.parametrize(("annotation", "given"), TOLD_AT_TRIGGER, ids=lambda value: str(value)[:40])
def test_the_schema_refuses_it_at_trigger_time(annotation: Any, given: Any) -> None:
    assert not Draft202012Validator(of(annotation).schema()).is_valid({"v": given})


def test_all_bad_fields_are_told_at_once() -> None:
    def function(a: int, b: list[Item], *, c: str = "x") -> None: ...

    with pytest.raises(InvalidPayload) as caught:
        Signature("t", function).bind({"b": [{"sku": 1}, {"count": 1}], "d": 1})
    assert [field["path"] for field in caught.value.fields] == ["a", "b[0].sku", "b[1].sku", "d"]
    with pytest.raises(InvalidPayload, match="expected an object"):
        Signature("t", function).bind([1])
    with pytest.raises(InvalidPayload, match=r"c.x: a float that is not finite"):
        Signature("t", function).bind({"a": 1, "b": [], "c": {"x": float("nan")}})


def test_calls_of_every_kind_are_bound() -> None:
    def function(a: int, /, b: int = 2, *, c: int = 3, **rest: int) -> tuple[Any, ...]:
        return a, b, c, rest

    signature = Signature("t", function)
    bound = signature.bind({"a": 1, "c": 4, "d": 5})
    assert function(*bound.args, **bound.kwargs) == (1, 2, 4, {"d": 5})
    schema = signature.schema()
    assert schema["additionalProperties"] == {"type": "integer"}
    assert schema["required"] == ["a"]
    assert schema["properties"]["b"] == {"type": "integer", "default": 2}

    def gap(a: int = 1, b: int = 2, /) -> tuple[int, int]:
        return a, b

    bound = Signature("t", gap).bind({"b": 5})
    assert gap(*bound.args) == (1, 5)


def test_nothing_but_named_parameters_is_accepted_at_the_top() -> None:
    def function(a: int) -> None: ...

    assert Signature("t", function).schema()["additionalProperties"] is False


def none_such(v: object, *rest: int) -> None: ...
def odd(v: Callable[[], int]) -> None: ...
def keyed(v: dict[int, str]) -> None: ...
def unknown(v: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (none_such, r"\*rest can't be filled"),
        (odd, "parameter 'v': .*Callable.* has no JSON form"),
        (keyed, "keys of a JSON object are text"),
        (unknown, "an annotation can't be resolved: name 'Nowhere' is not defined"),
    ],
)
def test_signatures_without_a_json_form_are_refused(function: Callable[..., Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        Signature("t", function)


def test_two_classes_of_one_name_stay_apart() -> None:
    def make(kind: type) -> Any:
        made = dataclasses.make_dataclass("Item", [("n", kind)])
        made.__module__ = f"m_{kind.__name__}"
        return made

    first, second = make(int), make(str)

    def function(a, b): ...  # type: ignore[no-untyped-def]

    function.__annotations__.update(a=first, b=second)
    schema = Signature("t", function).schema()
    validator = Draft202012Validator(schema)
    assert validator.is_valid({"a": {"n": 1}, "b": {"n": "x"}})
    assert not validator.is_valid({"a": {"n": "x"}, "b": {"n": "x"}})
