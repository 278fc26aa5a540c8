"""What an author's types accept, the API accepts, and what they refuse, it refuses: for types of every kind.

The API is the coordinator's own check of a payload. For pydantic's models the truth is pydantic; for the rest it is
what the run makes of a payload (`Signature.bind`).
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import ipaddress
import json
import os
import pathlib
import re
import uuid
from collections.abc import Iterable, Sequence
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    TypeVar,
    Union,
)

import annotated_types
import pydantic
import pytest
import typing_extensions
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from pydantic import AliasChoices, AliasPath, ConfigDict, Field
from samovar import InvalidPayload
from samovar.payloads.signature import Signature

from coordinator.foundation.errors import Invalid
from coordinator.tasks.index import _schema_problem
from coordinator.tasks.payloads import Payloads

T = TypeVar("T")
Schema = dict[str, Any]

#: `make test-long` draws five times as many of everything.
TIMES = int(os.environ.get("SAMOVAR_TEST_TIMES", "1"))
EXAMPLES = settings(max_examples=150 * TIMES, deadline=None, suppress_health_check=list(HealthCheck))


class Plain(enum.Enum):
    ONE, TWO, NONE, TEXT, HALF, YES = 1, 2, None, "text", 0.5, True


class Text(str, enum.Enum):  # noqa: UP042 (as people write it)
    A, B = "a", "1"


class Number(enum.IntEnum):
    A, B = 1, 2


class Odd(enum.Enum):
    """Values that JSON has no word for."""

    DATE = datetime.date(2024, 2, 29)
    PAIR = (1, "x")
    PRICE = decimal.Decimal("1.50")
    RAW = b"\x00\xff"
    THING = object()


class Rights(enum.Flag):
    READ, WRITE = 1, 2


@dataclasses.dataclass
class Node:
    name: str
    size: float = 1
    parent: Optional[Node] = None  # noqa: UP045
    children: list[Node] = dataclasses.field(default_factory=list)
    note: str = None  # type: ignore[assignment]
    factor: dataclasses.InitVar[int] = 1
    later: int = dataclasses.field(init=False, default=0)


@dataclasses.dataclass
class Box(Generic[T]):
    it: T
    others: list[T] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Labeled(Box[int], Generic[T]):
    label: T | None = None


class Partial(TypedDict, total=False):
    a: Required[int]
    b: str


class Whole(Partial):
    c: NotRequired[list[int]]
    d: Annotated[str, annotated_types.MaxLen(2)]


class Pair(TypedDict, Generic[T]):
    left: T
    right: T


class Point(NamedTuple):
    x: int
    y: float = 0.0
    label: str = None  # type: ignore[assignment]


OURS: list[Any] = [
    bool,
    int,
    float,
    str,
    bytes,
    None,
    Any,
    datetime.date,
    datetime.datetime,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
    uuid.UUID,
    Plain,
    Text,
    Number,
    Odd,
    Rights,
    Literal["a", 1, None, False],
    Literal[Plain.ONE, "x"],
    Literal[b"x"],
    Node,
    Box[int],
    Box[Box[str]],
    Box,
    Labeled[str],
    Partial,
    Whole,
    Pair[int],
    Point,
    tuple[int, str],
    tuple[()],
    tuple[int, ...],
    Annotated[int, annotated_types.Ge(1), annotated_types.Lt(5)],
    Annotated[float, annotated_types.Interval(gt=0, le=2.5)],
    Annotated[int, annotated_types.MultipleOf(3)],
    Annotated[str, annotated_types.Len(1, 3)],
    Annotated[str, Field(min_length=2, pattern="^[ab]+$")],
    Annotated[list[int], Field(max_length=2)],
    Annotated[set[int], annotated_types.Len(1, 2)],
    Annotated[dict[str, int], annotated_types.MinLen(1)],
    Annotated[bytes, annotated_types.Len(1, 3)],
    Annotated[decimal.Decimal, annotated_types.Ge(decimal.Decimal("0.5"))],
    Annotated[datetime.date, annotated_types.Ge(datetime.date(2024, 1, 1))],
    Annotated[int | None, annotated_types.Ge(1)],
    Annotated[decimal.Decimal | None, annotated_types.Gt(1)],
    Annotated[int | str, annotated_types.Ge(1), annotated_types.MaxLen(1)],
    Annotated[Node, "words of somebody else's"],
]

#: Leaves that one kind of type or another accepts, or nearly.
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from([0.0, 1.0, 1.5, -0.5, 2.5, 1e300, 10**20, 86400, 1700000000, 86400000.5]),
    st.sampled_from(
        [
            *(
                "",
                " ",
                "a",
                "b",
                "ab",
                "abc",
                "x",
                "text",
                "1",
                "5",
                " 5 ",
                "5.0",
                "1_0",
                "-3",
                "1.5",
                "1e3",
                "nan",
            ),
            *(
                "true",
                "True",
                "off",
                "yes",
                "inf",
                "0",
                "NONE",
                "THING",
                "ONE",
                "eA==",
                "AP8=",
                "AP8",
                "not base64!",
            ),
            *("2024-02-29", "2023-02-29", "20240229", "2024-13-01", "2024-02-29T12:30:00Z", "2024-02-29 12:30"),
            *("2024-02-29T25:00", "2024-02-29T12:30:00.123456789+05:30", "12:30", "12:30:61", "12:30:00Z", "PT1H"),
            *("00000000-0000-0000-0000-000000000001", "{00000000000000000000000000000001}", "P1D", "1.50", "-1"),
            *("127.0.0.1", "::1", "10.0.0.0/8", "http://x.example/", "ftp://x", "a@b.example", '{"a": 1}', "[1]"),
        ]
    ),
)
NAMES = st.sampled_from(
    [
        *("a", "b", "c", "d", "x", "y", "name", "size", "parent", "children", "note", "factor", "later", "it"),
        *("others", "label", "left", "right", "n", "N", "kind", "value", "text", "1", "inner", "extra", "items"),
    ]
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=8
)


def near(schema: Schema, root: Schema, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values of the form that a schema asks for, with leaves that may be wrong and parts that may be missing."""
    if "$ref" in schema:
        return near(root["$defs"][schema["$ref"].rpartition("/")[2]], root, depth + 1) if depth < 4 else LEAVES
    if "anyOf" in schema:
        return st.one_of([near(choice, root, depth) for choice in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"]) | LEAVES
    if schema.get("type") == "array":
        prefix = [near(item, root, depth + 1) for item in schema.get("prefixItems", [])]
        rest = st.lists(near(schema.get("items", {}), root, depth + 1), max_size=3)
        return st.tuples(st.tuples(*prefix), rest).map(lambda parts: [*parts[0], *parts[1]]) | rest
    if schema.get("type") == "object" and depth < 6:
        known = {name: near(part, root, depth + 1) for name, part in schema.get("properties", {}).items()}
        needed = {name: known.pop(name) for name in schema.get("required", []) if name in known}
        part = schema.get("additionalProperties")
        more = near(part, root, depth + 1) if isinstance(part, dict) else LEAVES
        usual = st.fixed_dictionaries(needed, optional=known)
        other = st.fixed_dictionaries({}, optional={**needed, **known})
        return (
            usual
            | other
            | st.tuples(usual, st.dictionaries(NAMES, more, max_size=2)).map(lambda parts: {**parts[1], **parts[0]})
        )
    return LEAVES


def signature_of(annotation: Any) -> Signature:
    def function(v): ...  # type: ignore[no-untyped-def]

    function.__annotations__["v"] = annotation
    return Signature("t", function)


def api_accepts(schema: Schema, value: Any) -> str | None:
    """Why the API refuses the value; None where it takes it."""
    try:
        Payloads().check("d", "t", json.dumps(schema), {"v": value})
    except Invalid as error:
        return str(error)
    return None


def run_accepts(signature: Signature, value: Any) -> str | None:
    try:
        signature.bind({"v": value})
    except InvalidPayload as error:
        return str(error)
    return None


@pytest.mark.parametrize("annotation", OURS, ids=str)
@given(data=st.data())
@settings(EXAMPLES, max_examples=40 * TIMES)
def test_the_api_and_the_run_agree_about_our_own_types(annotation: Any, data: st.DataObject) -> None:
    signature = signature_of(annotation)
    schema = signature.schema()
    assert _schema_problem(schema) is None
    value = data.draw(near(schema["properties"]["v"], schema) | VALUES)
    refused_by_api, refused_by_run = api_accepts(schema, value), run_accepts(signature, value)
    assert (refused_by_api is None) == (refused_by_run is None), (value, refused_by_api, refused_by_run)


@given(data=st.data())
@EXAMPLES
def test_they_agree_about_types_put_together(data: st.DataObject) -> None:
    leaf = st.sampled_from([kind for kind in OURS if kind is not Any])
    annotation = data.draw(
        st.recursive(
            leaf,
            lambda inner: st.one_of(
                inner.map(lambda kind: list[kind]),  # type: ignore[valid-type]
                inner.map(lambda kind: dict[str, kind]),  # type: ignore[valid-type]
                inner.map(lambda kind: tuple[kind, ...]),  # type: ignore[valid-type]
                inner.map(lambda kind: Box[kind]),  # type: ignore[valid-type]
                st.tuples(inner, inner).map(lambda kinds: Union[kinds]),  # noqa: UP007
                st.tuples(inner, inner).map(lambda kinds: tuple[kinds[0], kinds[1]]),  # type: ignore[name-defined]
            ),
            max_leaves=4,
        )
    )
    signature = signature_of(annotation)
    schema = signature.schema()
    value = data.draw(near(schema["properties"]["v"], schema) | VALUES)
    refused_by_api, refused_by_run = api_accepts(schema, value), run_accepts(signature, value)
    assert (refused_by_api is None) == (refused_by_run is None), (annotation, value, refused_by_api, refused_by_run)


# ------------------------------------------------------------------ pydantic


class Inner(pydantic.BaseModel):
    n: int
    text: str = ""


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    n: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog", "wolf"]
    name: str


class Root(pydantic.RootModel[list[int]]): ...


class Tree(pydantic.BaseModel):
    value: int
    children: list[Tree] = []
    parent: Tree | None = None


class Slot(pydantic.BaseModel, Generic[T]):
    it: T
    others: list[T] = []


@pydantic.dataclasses.dataclass
class Checked:
    a: int
    b: list[str] = dataclasses.field(default_factory=list)
    later: int = dataclasses.field(init=False, default=3)


class Extended(typing_extensions.TypedDict, total=False):
    a: typing_extensions.Required[int]
    b: str


LEAF_TYPES: list[Any] = [
    *(bool, int, float, str, bytes, datetime.date, datetime.datetime, datetime.time, datetime.timedelta),
    *(decimal.Decimal, uuid.UUID, Plain, Text, Number, None, Any, Literal["a", 1, None], Literal[Text.A]),
    *(Inner, Tree, Slot[int], Slot[str], Checked, Extended, Node, Point, Box[int]),
    Annotated[Cat | Dog, Field(discriminator="kind")],
    *(pydantic.PositiveInt, pydantic.NegativeFloat, pydantic.StrictInt, pydantic.StrictBool, pydantic.HttpUrl),
    *(
        pydantic.IPvAnyAddress,
        pydantic.PastDate,
        pydantic.AwareDatetime,
        pydantic.NaiveDatetime,
        pydantic.SecretStr,
    ),
    *(pydantic.UUID4, pydantic.FiniteFloat, pydantic.ByteSize, pydantic.conint(ge=1, multiple_of=2)),
    Annotated[int, Field(ge=1, lt=5)],
    Annotated[float, Field(gt=0, allow_inf_nan=False)],
    Annotated[str, Field(min_length=1, max_length=2)],
    Annotated[str, Field(pattern=r"^[ab]+$")],
    Annotated[str, pydantic.StringConstraints(strip_whitespace=True, to_lower=True, max_length=2)],
    Annotated[decimal.Decimal, Field(ge=1, max_digits=3, decimal_places=1)],
    Annotated[datetime.date, Field(ge=datetime.date(2024, 1, 1))],
    Annotated[datetime.timedelta, Field(le=datetime.timedelta(hours=1))],
    Annotated[bytes, Field(max_length=2)],
    Annotated[list[int], Field(min_length=1, max_length=2)],
    Annotated[dict[str, int], Field(max_length=1)],
    *(tuple[int, str], tuple[int, ...], set[str], frozenset[int], dict[int, str], dict[str, Any], list),
    *(ipaddress.IPv4Address, pathlib.Path),
    *(collections.deque[int], collections.Counter[str], collections.OrderedDict[str, int]),
    *(re.Pattern, pydantic.Json[int], Root),
    *(Sequence[int], Iterable[int]),
]
CONFIGS: list[ConfigDict] = [
    ConfigDict(),
    ConfigDict(extra="forbid"),
    ConfigDict(extra="allow"),
    ConfigDict(strict=True),
    ConfigDict(str_strip_whitespace=True, str_min_length=1),
    ConfigDict(coerce_numbers_to_str=True, allow_inf_nan=False),
    ConfigDict(populate_by_name=True, extra="forbid"),
    ConfigDict(populate_by_name=True),
    ConfigDict(ser_json_bytes="base64", val_json_bytes="base64"),
]
#: How a field may be named from outside, and whether it has a default.
ALIASES: list[dict[str, Any]] = [
    {},
    {"alias": "N"},
    {"validation_alias": "N"},
    {"validation_alias": AliasChoices("N", "x")},
    {"validation_alias": AliasPath("items", 1)},
    {"validation_alias": AliasChoices("N", AliasPath("inner", "n"))},
]

types = st.recursive(
    st.sampled_from(LEAF_TYPES),
    lambda inner: st.one_of(
        inner.map(lambda kind: list[kind]),  # type: ignore[valid-type]
        inner.map(lambda kind: dict[str, kind]),  # type: ignore[valid-type]
        inner.map(lambda kind: Union[kind, None]),  # noqa: UP007
        inner.map(lambda kind: Slot[kind]),  # type: ignore[valid-type]
        st.tuples(inner, inner).map(lambda kinds: Union[kinds]),  # noqa: UP007
    ),
    max_leaves=3,
)


@st.composite
def models(draw: st.DrawFn) -> type[pydantic.BaseModel]:
    fields: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(["n", "a", "value"]), min_size=1, max_size=3, unique=True)):
        alias = draw(st.sampled_from(ALIASES)) if name == "n" else {}
        default = draw(st.sampled_from([{}, {}, {"default": None}]))
        fields[name] = (draw(types), Field(**alias, **default))
    try:
        return pydantic.create_model("Made", __config__=draw(st.sampled_from(CONFIGS)), **fields)
    except pydantic.PydanticUserError:  # two of these that pydantic has not together
        reject()


def pydantic_accepts(model: Any, value: Any) -> str | None:
    try:
        model.model_validate_json(json.dumps(value))
    except pydantic.ValidationError as error:
        return str(error)
    return None


@given(data=st.data())
@settings(EXAMPLES, max_examples=400 * TIMES)
def test_the_api_and_pydantic_agree_about_models(data: st.DataObject) -> None:
    model = data.draw(models())
    signature = signature_of(model)
    schema = signature.schema()
    assert _schema_problem(schema) is None
    value = data.draw(near(schema["properties"]["v"], schema) | VALUES)
    refused_by_api, refused_by_pydantic = api_accepts(schema, value), pydantic_accepts(model, value)
    assert (refused_by_api is None) == (refused_by_pydantic is None), (
        *(model.__pydantic_fields__, model.model_config, value),
        *(refused_by_api, refused_by_pydantic),
    )
    assert (run_accepts(signature, value) is None) == (refused_by_pydantic is None)
