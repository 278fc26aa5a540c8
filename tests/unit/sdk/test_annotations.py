"""Only what decides about a payload is resolved; and every class has a name of its own in the schema."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, NamedTuple, Optional, TypedDict, TypeVar

import pydantic
import pytest
from samovar import InvalidPayload, OptionError
from samovar.payloads.signature import Signature
from typing_extensions import TypeAliasType, Unpack

from coordinator.foundation.errors import Invalid
from coordinator.tasks.payloads import Payloads

if TYPE_CHECKING:
    from somewhere_else import Nothing, Report

T = TypeVar("T")
U = TypeVar("U")

#: `type Tree = dict[str, Tree | int]`, for Pythons without the word.
Nested = TypeAliasType("Nested", "dict[str, Nested | int]")


def accepts(function: Any, **payload: Any) -> bool:
    """Whether the API takes the payload; the run then does the same."""
    signature = Signature("t", function)
    try:
        Payloads().check("d", "t", json.dumps(signature.schema()), payload)
    except Invalid:
        with pytest.raises(InvalidPayload):
            signature.bind(payload)
        return False
    signature.bind(payload)
    return True


def test_a_return_annotation_under_type_checking_is_no_matter() -> None:
    def function(n: int) -> Report: ...

    assert accepts(function, n=1)
    assert not accepts(function, n="x")


def test_so_are_fields_that_no_payload_has() -> None:
    @dataclasses.dataclass
    class Item:
        n: int
        cache: ClassVar[Nothing] = None
        made: Report = dataclasses.field(init=False, default=None)

    def function(item): ...  # type: ignore[no-untyped-def]

    function.__annotations__["item"] = Item
    assert accepts(function, item={"n": 1})
    assert not accepts(function, item={"n": 1, "made": 1})


def test_a_parameter_that_can_not_be_resolved_is_named_with_the_remedy() -> None:
    def function(n: int, report: Report | None = None) -> None: ...

    with pytest.raises(OptionError) as caught:
        Signature("t", function)
    message = str(caught.value)
    assert "task 't', parameter 'report'" in message
    assert "name 'Report' is not defined" in message
    assert "import that name at run time too, not only under `if TYPE_CHECKING:`" in message


def test_a_field_that_can_not_be_resolved_is_named() -> None:
    @dataclasses.dataclass
    class Item:
        report: Report

    class Model(pydantic.BaseModel):
        report: Report

    def function(item): ...  # type: ignore[no-untyped-def]
    def model(item): ...  # type: ignore[no-untyped-def]

    function.__annotations__["item"], model.__annotations__["item"] = Item, Model
    with pytest.raises(OptionError, match=r"parameter 'item': .*Item.report: .*'Report' is not defined"):
        Signature("t", function).schema()
    with pytest.raises(OptionError, match=r"Model.*Report.*TYPE_CHECKING"):
        Signature("t", model).schema()


def test_the_index_takes_a_module_that_annotates_like_this(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(
        "from __future__ import annotations\n"
        "from typing import TYPE_CHECKING\n"
        "from samovar import task\n"
        "if TYPE_CHECKING:\n    from pandas import DataFrame\n"
        "@task\ndef load(team_id: int = None) -> DataFrame: ...\n"
    )
    (tmp_path / "manifest.json").write_text('{"project": "p", "modules": ["tasks"]}')
    done = subprocess.run(
        [sys.executable, "-m", "samovar.index", "--manifest", "manifest.json", "--code", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    index = json.loads(done.stdout.splitlines()[-1])
    (found,) = index["tasks"]
    team = found["schema"]["properties"]["team_id"]
    assert team == {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}


@dataclasses.dataclass
class Team:
    team_id: int = None  # type: ignore[assignment]


def test_a_default_of_none_may_be_given() -> None:
    def function(team_id: int = None, item: Team = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013

    assert accepts(function, team_id=None, item={"team_id": None})
    assert accepts(function, team_id=1, item=None)
    assert not accepts(function, team_id="x")


def outer() -> Any:
    class Item(pydantic.BaseModel):
        n: int

    class First(pydantic.BaseModel):
        item: Item

    return First


def other() -> Any:
    class Item(pydantic.BaseModel):
        text: str

    class Second(pydantic.BaseModel):
        item: Item

    return Second


def test_nested_models_of_one_class_name_stay_apart() -> None:
    def function(first, second): ...  # type: ignore[no-untyped-def]

    function.__annotations__.update(first=outer(), second=other())
    assert accepts(function, first={"item": {"n": 1}}, second={"item": {"text": "x"}})
    assert not accepts(function, first={"item": {"text": "x"}}, second={"item": {"text": "x"}})
    assert not accepts(function, first={"item": {"n": 1}}, second={"item": {"n": 1}})


def test_so_do_classes_that_are_called_the_same_in_everything() -> None:
    def make(kind: Any) -> Any:
        return dataclasses.make_dataclass("Item", [("n", kind)])

    def function(a, b, c): ...  # type: ignore[no-untyped-def]

    function.__annotations__.update(a=make(int), b=make(str), c=pydantic.create_model("Item", n=(list[int], ...)))
    assert accepts(function, a={"n": 1}, b={"n": "x"}, c={"n": [1]})
    assert not accepts(function, a={"n": "x"}, b={"n": "x"}, c={"n": [1]})
    assert not accepts(function, a={"n": 1}, b={"n": "x"}, c={"n": 1})
    names = list(Signature("t", function).schema()["$defs"])
    assert len(set(names)) == 3


def test_one_class_stands_in_the_schema_once() -> None:
    class Item(pydantic.BaseModel):
        n: int

    class One(pydantic.BaseModel):
        item: Item
        items: list[Item]

    def function(a, b): ...  # type: ignore[no-untyped-def]

    function.__annotations__.update(a=One, b=Item)
    assert sorted(Signature("t", function).schema()["$defs"]) == ["Item", "One"]


def test_type_variables_stand_for_what_they_were_given() -> None:
    @dataclasses.dataclass
    class Box(Generic[T]):
        it: T

    @dataclasses.dataclass
    class Two(Box[int], Generic[T, U]):
        first: T
        second: list[U]

    class Pair(TypedDict, Generic[T]):
        left: T

    class Coordinates(NamedTuple, Generic[T]):
        x: T

    def function(two, pair, point): ...  # type: ignore[no-untyped-def]

    function.__annotations__.update(two=Two[str, bool], pair=Pair[Box[int]], point=Coordinates[int])
    good = {"two": {"it": 1, "first": "x", "second": [True]}, "pair": {"left": {"it": 1}}, "point": [1]}
    assert accepts(function, **good)
    assert not accepts(function, **{**good, "two": {"it": "x", "first": "x", "second": [True]}})
    assert not accepts(function, **{**good, "two": {"it": 1, "first": 1, "second": [True]}})
    assert not accepts(function, **{**good, "pair": {"left": {"it": "x"}}})
    assert not accepts(function, **{**good, "point": ["x"]})


def test_an_alias_may_contain_itself() -> None:
    def function(tree): ...  # type: ignore[no-untyped-def]

    function.__annotations__["tree"] = pydantic.JsonValue
    assert accepts(function, tree={"a": [1, {"b": None}]})
    function.__annotations__["tree"] = Nested
    assert accepts(function, tree={"a": {"b": 1}, "c": 2})
    assert not accepts(function, tree={"a": {"b": "x"}})


def test_a_model_may_name_one_that_comes_later() -> None:
    def function(a, n): ...  # type: ignore[no-untyped-def]

    function.__annotations__.update(a=Early, n=Annotated[int, pydantic.Field(gt=0)])
    assert accepts(function, a={"later": {"n": "5"}}, n=1)
    assert not accepts(function, a={"later": {"n": "x"}}, n=1)
    assert not accepts(function, a={"later": {"n": "5"}}, n=0)


class Early(pydantic.BaseModel):
    later: Optional[Later] = None  # noqa: UP045


class Later(pydantic.BaseModel):
    n: int


class Options(TypedDict, total=False):
    color: str
    size: int


def test_keyword_arguments_may_be_those_of_a_typed_dict() -> None:
    def function(n: int, **options: Unpack[Options]) -> None: ...

    assert accepts(function, n=1, color="red")
    assert accepts(function, n=1)
    assert not accepts(function, n=1, color=1)
    assert not accepts(function, n=1, other=1)


def test_types_that_pydantic_knows_are_parameters_too() -> None:
    def function(url: pydantic.HttpUrl, when: pydantic.PastDate = None) -> None: ...  # type: ignore[assignment]

    assert accepts(function, url="https://example.org/", when="2001-01-01")
    assert not accepts(function, url="nowhere")
    assert not accepts(function, url="https://example.org/", when="9999-01-01")


def test_a_wrong_value_of_a_model_is_told_in_a_sentence() -> None:
    def function(a: Early, n: Annotated[int, pydantic.Field(gt=0)]) -> None: ...

    schema = json.dumps(Signature("t", function).schema())
    with pytest.raises(Invalid) as caught:
        Payloads().check("d", "t", schema, {"a": {"later": {"n": "x"}}, "n": 0})
    assert [(field.path, field.message) for field in caught.value.fields] == [
        (
            "a.later.n",
            "Input should be a valid integer, unable to parse string as an integer, got 'x'",
        ),
        ("n", "0 is less than or equal to the minimum of 0"),
    ]


def test_code_of_the_author_is_left_to_the_run() -> None:
    class Loose(pydantic.BaseModel):
        tags: list[str]

        @pydantic.field_validator("tags", mode="before")
        @classmethod
        def split(cls, value: Any) -> Any:
            return value.split(",") if isinstance(value, str) else value

    class Checked(pydantic.BaseModel):
        n: int

        @pydantic.field_validator("n")
        @classmethod
        def even(cls, value: int) -> int:
            if value % 2:
                raise ValueError("odd")
            return value

    def loose(v: Loose) -> None: ...
    def checked(v: Checked) -> None: ...

    loose.__annotations__["v"], checked.__annotations__["v"] = Loose, Checked
    assert accepts(loose, v={"tags": "a,b"})
    assert not accepts(checked, v={"n": "x"})
    Payloads().check("d", "t", json.dumps(Signature("t", checked).schema()), {"v": {"n": 1}})
    with pytest.raises(InvalidPayload, match="odd"):
        Signature("t", checked).bind({"v": {"n": 1}})
