"""Shapes: a converter from JSON and a JSON Schema (draft 2020-12), from one place.

`load(value, path, problems)` returns the converted value and adds `{"path", "message"}` to `problems` for every bad
place; `schema(definitions)` returns the JSON Schema and puts named types into `definitions` (the schema's `$defs`).

A bool is no int, an int is a float, NaN and infinities are refused, an int may be written 1.0. What `load` accepts,
the coordinator accepts by the schema, and what it refuses, the coordinator refuses; formats of ours there are
`decimal` and `base64`. pydantic's models follow pydantic's rules instead (models.py).
"""

from __future__ import annotations

import base64
import binascii
import functools
import math
import typing
from typing import Any, Callable

from samovar.payloads.definitions import Definitions

Problems = list[dict[str, str]]
#: From an annotation to its shape; raises OptionError.
Compile = Callable[[Any], "Shape"]


class Shape:
    """One annotation."""

    #: Python types that fit as they are, so that a union prefers them to a conversion.
    exact: tuple[type, ...] = ()
    name = "a value"

    def load(self, value: Any, path: str, problems: Problems) -> Any:
        raise NotImplementedError

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        raise NotImplementedError

    def refuse(self, value: Any, path: str, problems: Problems) -> None:
        problems.append({"path": path, "message": f"expected {self.name}, got {show(value)}"})


def show(value: object) -> str:
    """`value` for a message, short."""
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    if isinstance(value, (int, float)):
        return text[:60]
    return f"{names.get(type(value), type(value).__name__)} ({text if len(text) <= 60 else text[:57] + '...'})"


class AnyShape(Shape):
    name = "any JSON value"

    def load(self, value: Any, path: str, problems: Problems) -> Any:
        return value

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {}


class Scalar(Shape):
    """A JSON scalar, or a type written as one."""

    def __init__(
        self,
        name: str,
        exact: tuple[type, ...],
        schema: dict[str, Any],
        convert: Callable[[Any], Any] | None = None,
        accepts: tuple[type, ...] = (str,),
    ) -> None:
        self.name, self.exact = name, exact
        self._schema, self._convert, self._accepts = schema, convert, accepts

    def load(self, value: Any, path: str, problems: Problems) -> Any:
        if type(value) in self.exact:
            if not (isinstance(value, float) and not math.isfinite(value)):
                return value
        elif self._convert is not None and type(value) in self._accepts:
            try:
                return self._convert(value)
            except (ValueError, TypeError, ArithmeticError):
                pass
        return self.refuse(value, path, problems)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return dict(self._schema)


def _whole(value: float) -> int:
    if not value.is_integer():
        raise ValueError
    return int(value)


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError from error


_BASE64 = {"type": "string", "contentEncoding": "base64", "format": "base64"}

SCALARS: dict[Any, Shape] = {
    Any: AnyShape(),
    object: AnyShape(),
    None: Scalar("null", (type(None),), {"type": "null"}),
    type(None): Scalar("null", (type(None),), {"type": "null"}),
    bool: Scalar("true or false", (bool,), {"type": "boolean"}),
    int: Scalar("an integer", (int,), {"type": "integer"}, _whole, (float,)),
    float: Scalar("a finite number", (float,), {"type": "number"}, float, (int,)),
    str: Scalar("text", (str,), {"type": "string"}),
    bytes: Scalar("bytes as base64 text", (bytes,), _BASE64, _base64),
}


class ListShape(Shape):
    """list, set, frozenset and tuple[T, ...], all lists in JSON."""

    def __init__(self, item: Shape, make: Callable[[Any], Any]) -> None:
        self._item, self._make = item, make
        #: Whether equal items become one.
        self.distinct = make in (set, frozenset)
        self.exact = (list,)
        self.name = f"a list of {item.name.removeprefix('a ')}" if make is list else "a list"

    def load(self, value: Any, path: str, problems: Problems) -> Any:
        if not isinstance(value, (list, tuple, set, frozenset)):
            return self.refuse(value, path, problems)
        count = len(problems)
        items = [self._item.load(item, f"{path}[{index}]", problems) for index, item in enumerate(value)]
        if len(problems) > count:
            return None
        try:
            return self._make(items)
        except TypeError:
            problems.append({"path": path, "message": "these items can't be members of a set; use a list"})
            return None

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"type": "array", "items": self._item.schema(definitions)}


class TupleShape(Shape):
    """tuple[A, B]: a list of just these items."""

    exact = (list,)

    def __init__(self, items: list[Shape]) -> None:
        self._items = items
        self.name = f"a list of {len(items)} items"

    def load(self, value: Any, path: str, problems: Problems) -> Any:
        if not isinstance(value, (list, tuple)) or len(value) != len(self._items):
            return self.refuse(value, path, problems)
        pairs = enumerate(zip(self._items, value))
        return tuple(shape.load(item, f"{path}[{index}]", problems) for index, (shape, item) in pairs)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        count = len(self._items)
        prefix = {"prefixItems": [item.schema(definitions) for item in self._items]} if count else {}
        return {"type": "array", **prefix, "minItems": count, "maxItems": count}


class MapShape(Shape):
    """dict[str, T]."""

    exact = (dict,)
    name = "an object"

    def __init__(self, item: Shape) -> None:
        self._item = item

    def load(self, value: Any, path: str, problems: Problems) -> Any:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            return self.refuse(value, path, problems)
        return {key: self._item.load(item, f"{path}.{key}", problems) for key, item in value.items()}

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": self._item.schema(definitions) or True}


class UnionShape(Shape):
    """Optional, Union and `|`: a member that fits as it is, else the first that converts."""

    def __init__(self, members: list[Shape]) -> None:
        self.members = members
        self.exact = tuple(kind for member in members for kind in member.exact)
        self.name = " or ".join(member.name for member in members)

    def load(self, value: Any, path: str, problems: Problems) -> Any:
        ordered = sorted(self.members, key=lambda member: type(value) not in member.exact)
        closest: Problems | None = None
        for member in ordered:
            found: Problems = []
            loaded = member.load(value, path, found)
            if not found:
                return loaded
            # a member of the right kind with bad parts says more than "none of these"
            if closest is None and any(problem["path"] != path for problem in found):
                closest = found
        if closest is not None:
            problems.extend(closest)
            return None
        return self.refuse(value, path, problems)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"anyOf": [member.schema(definitions) for member in self.members]}


class ChoiceShape(Shape):
    """Literal and Enum: one of some values, each with its JSON."""

    def __init__(self, choices: list[tuple[Any, Any]]) -> None:
        self._choices = choices
        self.exact = tuple({type(json) for json, _ in choices})
        self.name = "one of " + ", ".join(repr(json) for json, _ in choices)

    def load(self, value: Any, path: str, problems: Problems) -> Any:
        for json, made in self._choices:
            if value is made or same(value, json):
                return made
        return self.refuse(value, path, problems)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"enum": [json for json, _ in self._choices]}


class FlagShape(Shape):
    """A Flag: the number of any members together."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._most = functools.reduce(lambda known, member: known | member.value, kind, 0)
        self.exact = (int,)
        self.name = f"a number of {kind.__name__}, 0 to {self._most}"

    def load(self, value: Any, path: str, problems: Problems) -> Any:
        if isinstance(value, self._kind):
            return value
        whole = int(value) if isinstance(value, float) and value.is_integer() else value
        if type(whole) is not int or not 0 <= whole <= self._most:
            return self.refuse(value, path, problems)
        return self._kind(whole)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"type": "integer", "minimum": 0, "maximum": self._most}


class AliasShape(Shape):
    """`type Tree = dict[str, Tree]`: compiled at first use, because it may contain itself."""

    def __init__(self, alias: Any, compile: Callable[[], Shape]) -> None:
        self._alias, self._compile = alias, compile
        self._compiled: Shape | None = None
        self.name = str(getattr(typing.get_origin(alias) or alias, "__name__", alias))

    def _shape(self) -> Shape:
        if self._compiled is None:
            self._compiled = self._compile()
        return self._compiled

    def load(self, value: Any, path: str, problems: Problems) -> Any:
        return self._shape().load(value, path, problems)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        name, is_new = definitions.name(("alias", self._alias), self.name, "")
        if is_new:
            definitions[name].update(self._shape().schema(definitions))
        return {"$ref": f"#/$defs/{name}"}


def same(value: Any, json: Any) -> bool:
    """Whether two JSON values are equal as JSON Schema has it: 1 is 1.0, and neither is true."""
    if isinstance(value, bool) or isinstance(json, bool):
        return value is json
    if isinstance(json, list):
        return isinstance(value, list) and len(value) == len(json) and all(map(same, value, json))
    if isinstance(json, dict):
        return (
            isinstance(value, dict)
            and value.keys() == json.keys()
            and all(same(value[name], item) for name, item in json.items())
        )
    if isinstance(value, (int, float)) and isinstance(json, (int, float)):
        return value == json
    return type(value) is type(json) and bool(value == json)


def accepts_null(shape: Shape) -> bool:
    """Whether null is a value of this shape."""
    found: Problems = []
    shape.load(None, "", found)
    return not found


def or_null(shape: Shape) -> Shape:
    """`shape`, or null: for what has None as its default, whatever it says."""
    return shape if accepts_null(shape) else UnionShape([shape, SCALARS[None]])
