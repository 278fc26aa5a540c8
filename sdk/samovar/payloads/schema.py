"""What an annotation accepts: a converter from JSON and a JSON Schema (draft 2020-12), from one place.

`compile_type(annotation)` gives a Shape: `load(value, path, problems)` returns the converted value and adds
`{"path", "message"}` to `problems` for every bad place; `schema(definitions)` returns the JSON Schema and
puts named types into `definitions` (the schema's `$defs`). Classes are in shapes.py where they have fields.

A bool is no int, an int is a float, NaN and infinities are refused, an int may be written 1.0.
"""

from __future__ import annotations

import base64
import binascii
import collections.abc
import enum
import functools
import math
import sys
import types
import typing
from typing import Any, Callable, Union

from samovar.errors import OptionError

Problems = list[dict[str, str]]
Definitions = dict[str, Any]


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


SCALARS: dict[Any, Shape] = {
    Any: AnyShape(),
    object: AnyShape(),
    None: Scalar("null", (type(None),), {"type": "null"}),
    type(None): Scalar("null", (type(None),), {"type": "null"}),
    bool: Scalar("true or false", (bool,), {"type": "boolean"}),
    int: Scalar("an integer", (int,), {"type": "integer"}, _whole, (float,)),
    float: Scalar("a finite number", (float,), {"type": "number"}, float, (int,)),
    str: Scalar("text", (str,), {"type": "string"}),
    bytes: Scalar("bytes as base64 text", (bytes,), {"type": "string", "contentEncoding": "base64"}, _base64),
}


@functools.cache
def _library_scalars() -> dict[Any, Shape]:
    """Scalars of modules that only some projects load: an annotation of theirs says that this one has."""
    import datetime
    import decimal
    import uuid

    def iso(kind: Any) -> Callable[[str], Any]:
        # fromisoformat of Python 3.9 and 3.10 does not know the Z that JSON writers use
        return lambda text: kind.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)

    def exact(value: str | float) -> decimal.Decimal:
        number = decimal.Decimal(str(value))
        if not number.is_finite():
            raise ValueError
        return number

    def seconds(value: float) -> datetime.timedelta:
        return datetime.timedelta(seconds=value)

    texts = (
        (datetime.datetime, 'a date and time such as "2025-01-31T12:00:00Z"', "date-time", iso(datetime.datetime)),
        (datetime.date, 'a date such as "2025-01-31"', "date", iso(datetime.date)),
        (datetime.time, 'a time such as "12:00:00"', "time", iso(datetime.time)),
        (uuid.UUID, "a UUID", "uuid", uuid.UUID),
    )
    scalars: dict[Any, Shape] = {
        kind: Scalar(name, (kind,), {"type": "string", "format": form}, convert)
        for kind, name, form, convert in texts
    }
    number = {"anyOf": [{"type": "string"}, {"type": "number"}]}
    scalars[decimal.Decimal] = Scalar(
        'a decimal number such as "19.99"', (decimal.Decimal,), number, exact, (str, int, float)
    )
    scalars[datetime.timedelta] = Scalar(
        "a number of seconds", (datetime.timedelta,), {"type": "number"}, seconds, (int, float)
    )
    return scalars


class ListShape(Shape):
    """list, set, frozenset and tuple[T, ...], all lists in JSON."""

    def __init__(self, item: Shape, make: Callable[[Any], Any]) -> None:
        self._item, self._make = item, make
        self._unique = make in (set, frozenset)
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
        schema: dict[str, Any] = {"type": "array", "items": self._item.schema(definitions)}
        return {**schema, "uniqueItems": True} if self._unique else schema


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
        self._members = members
        self.exact = tuple(kind for member in members for kind in member.exact)
        self.name = " or ".join(member.name for member in members)

    def load(self, value: Any, path: str, problems: Problems) -> Any:
        ordered = sorted(self._members, key=lambda member: type(value) not in member.exact)
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
        return {"anyOf": [member.schema(definitions) for member in self._members]}


class ChoiceShape(Shape):
    """Literal and Enum: one of some values."""

    def __init__(self, choices: list[tuple[Any, Any]]) -> None:
        self._choices = choices
        self.exact = tuple({type(json) for json, _ in choices})
        self.name = "one of " + ", ".join(repr(json) for json, _ in choices)

    def load(self, value: Any, path: str, problems: Problems) -> Any:
        for json, made in self._choices:
            if value is made or (type(value) is type(json) and value == json):
                return made
        return self.refuse(value, path, problems)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"enum": [json for json, _ in self._choices]}


_LISTS: dict[Any, Callable[[Any], Any]] = {
    list: list,
    set: set,
    frozenset: frozenset,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Iterable: list,
    collections.abc.Collection: list,
    collections.abc.Set: frozenset,
    collections.abc.MutableSet: set,
}
_MAPS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_UNIONS = (Union, getattr(types, "UnionType", Union))


def compile_type(annotation: Any) -> Shape:
    """The shape of `annotation`. Raises OptionError naming an annotation that has no JSON form."""
    try:
        if annotation in SCALARS:
            return SCALARS[annotation]
    except TypeError:  # an annotation that has no hash
        pass
    if getattr(annotation, "__module__", None) in ("datetime", "decimal", "uuid"):
        scalar = _library_scalars().get(annotation)
        if scalar is not None:
            return scalar
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return compile_type(arguments[0])
    if hasattr(annotation, "__supertype__"):  # NewType
        return compile_type(annotation.__supertype__)
    if type(annotation).__name__ == "TypeAliasType":  # `type Name = ...` of Python 3.12
        return compile_type(annotation.__value__)
    if origin in _UNIONS:
        return UnionShape([compile_type(member) for member in arguments])
    if origin is typing.Literal:
        return ChoiceShape([(choice, choice) for choice in arguments])
    base = origin or annotation
    if base is tuple:
        if not arguments or (len(arguments) == 2 and arguments[1] is Ellipsis):
            return ListShape(compile_type(arguments[0] if arguments else Any), tuple)
        return TupleShape([compile_type(item) for item in arguments if item != ()])
    if isinstance(base, type) or base in _LISTS or base in _MAPS:
        if base in _LISTS:
            return ListShape(compile_type(arguments[0] if arguments else Any), _LISTS[base])
        if base in _MAPS:
            if arguments and compile_type(arguments[0]).exact != (str,):
                raise OptionError(f"{_written(annotation)}: keys of a JSON object are text; use dict[str, ...]")
            return MapShape(compile_type(arguments[1] if arguments else Any))
        if issubclass(base, enum.Enum):
            return ChoiceShape([(member.value, member) for member in base])
        from samovar.payloads.shapes import class_shape

        shape = class_shape(base)
        if shape is not None:
            return shape
    raise OptionError(
        f"{_written(annotation)} has no JSON form; use JSON types, bytes, dates, Decimal, UUID, Enum, Literal, "
        "dataclasses, TypedDict, NamedTuple or pydantic models"
    )


def hints(owner: Any) -> dict[str, Any]:
    """The annotations of a class or function, resolved. Raises OptionError for one that can't be."""
    try:
        return typing.get_type_hints(owner, include_extras=True)
    except (NameError, TypeError, SyntaxError, AttributeError) as error:
        advice = (
            " (on Python 3.9 write Optional[X] and Union[X, Y], not X | Y)" if sys.version_info < (3, 10) else ""
        )
        raise OptionError(f"{owner.__qualname__}: an annotation can't be resolved: {error}{advice}") from None


def _written(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation)
