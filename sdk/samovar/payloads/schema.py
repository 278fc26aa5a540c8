"""What an annotation accepts: `compile_type(annotation)` gives its Shape (shape.py).

Classes with fields are in shapes.py, limits of `Annotated` in constraints.py, pydantic's models in models.py. Those
that hold annotations of their own are given `compile_type`, and call it when they are first used.
"""

from __future__ import annotations

import collections.abc
import enum
import functools
import types
import typing
from typing import Any, Callable, Union

from samovar.errors import OptionError
from samovar.payloads.hints import bind, resolve_alias
from samovar.payloads.scalars import LIBRARIES, library_scalars
from samovar.payloads.shape import (
    SCALARS,
    AliasShape,
    ChoiceShape,
    FlagShape,
    ListShape,
    MapShape,
    Shape,
    TupleShape,
    UnionShape,
)

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
    library = str(getattr(annotation, "__module__", None)).partition(".")[0]
    if library in LIBRARIES:
        scalar = library_scalars(library).get(annotation)
        if scalar is not None:
            return scalar
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        from samovar.payloads.constraints import constrained

        return constrained(annotation, arguments[0], annotation.__metadata__, compile_type)
    if hasattr(annotation, "__supertype__"):  # NewType
        return compile_type(annotation.__supertype__)
    if type(origin or annotation).__name__ == "TypeAliasType":  # `type Name = ...` of Python 3.12
        return _alias_shape(annotation, origin or annotation, arguments)
    if isinstance(annotation, typing.TypeVar):
        return compile_type(bind(annotation, {}))
    if origin in _UNIONS:
        return UnionShape([compile_type(member) for member in arguments])
    if origin is typing.Literal:
        return ChoiceShape([(_json_of(choice, str(choice)), choice) for choice in arguments])
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
            return _enum_shape(base)
        from samovar.payloads.shapes import class_shape

        shape = class_shape(base, arguments, compile_type)
        if shape is not None:
            return shape
        if hasattr(base, "__get_pydantic_core_schema__"):
            from samovar.payloads.models import ModelShape, understands

            if understands(annotation):
                return ModelShape(annotation)
    raise OptionError(
        f"{_written(annotation)} has no JSON form; use JSON types, bytes, dates, Decimal, UUID, Enum, Literal, "
        "File, dataclasses, TypedDict, NamedTuple or pydantic models"
    )


def _alias_shape(annotation: Any, alias: Any, arguments: tuple[Any, ...]) -> Shape:
    if str(alias.__module__).partition(".")[0] == "pydantic":
        from samovar.payloads.models import ModelShape

        return ModelShape(annotation)
    value = resolve_alias(alias)
    bound = bind(value, dict(zip(alias.__type_params__, arguments)))
    return AliasShape(annotation, lambda: compile_type(bound))


def _enum_shape(kind: Any) -> Shape:
    values = [member.value for member in kind]
    if issubclass(kind, enum.Flag) and values:
        most = functools.reduce(lambda known, value: known | value, values, 0)
        if most & (most + 1) == 0:  # every number up to it is a set of members
            return FlagShape(kind)
    return ChoiceShape([(_json_of(member.value, member.name), member) for member in kind])


def _json_of(value: Any, name: str) -> Any:
    """The JSON of an Enum's value or a Literal: as in results; a value that has none is known by its name."""
    from samovar.errors import NotSerializable
    from samovar.payloads.codec import plain

    try:
        return plain(value)
    except NotSerializable:
        return name


def _written(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation)
