"""`Annotated[int, Ge(1)]`: limits of annotated_types, and of pydantic's Field, on a type of ours.

Both are known by their names; the SDK imports neither. A limit holds for values that it can be asked of: a minimum
for numbers and dates, a length for text and lists. Words of pydantic's that are no limits (a validator, `strict`)
leave the whole annotation to pydantic.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from samovar.payloads import readings
from samovar.payloads.definitions import Definitions
from samovar.payloads.shape import Compile, ListShape, MapShape, Problems, Scalar, Shape, UnionShape, show

_COMPARED: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "ge": ("at least", lambda value, limit: value >= limit),
    "gt": ("more than", lambda value, limit: value > limit),
    "le": ("at most", lambda value, limit: value <= limit),
    "lt": ("less than", lambda value, limit: value < limit),
}
_KEYWORDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
_LIMITS = (*_COMPARED, "multiple_of", "min_length", "max_length", "pattern")
_LIBRARIES = ("annotated_types", "pydantic")


def constrained(annotation: Any, inner: Any, metadata: tuple[Any, ...], compile: Compile) -> Shape:
    """The shape of `Annotated[inner, *metadata]`."""
    limits: list[tuple[str, Any]] = []
    known = True
    for item in _flat(metadata):
        found, all_of_it = _read(item)
        limits += found
        known = known and all_of_it
    if not known:
        from samovar.payloads.models import ModelShape, understands

        if understands(annotation):
            return ModelShape(annotation)
    shape = compile(inner)
    return ConstrainedShape(shape, limits) if limits else shape


def _flat(metadata: Any) -> Iterator[Any]:
    """The metadata one by one: groups of them (Interval, Len, StringConstraints) and Fields taken apart."""
    for item in metadata:
        library = type(item).__module__.partition(".")[0]
        if library not in _LIBRARIES:
            continue
        if type(item).__name__ == "FieldInfo":
            if getattr(item, "discriminator", None) is not None:
                yield item
            yield from _flat(item.metadata)
        elif hasattr(type(item), "__iter__"):
            yield from _flat(item)
        else:
            yield item


def _read(item: Any) -> tuple[list[tuple[str, Any]], bool]:
    """The limits in one piece of metadata, and whether it says nothing else."""
    kind = type(item).__name__
    if kind in ("Ge", "Gt", "Le", "Lt", "MultipleOf", "MinLen", "MaxLen"):
        names = [name for name in _LIMITS if getattr(item, name, None) is not None]
        return [(name, getattr(item, name)) for name in names], True
    if kind in ("Predicate", "Not"):
        return [("predicate", item.func if kind == "Predicate" else item)], True
    if kind in ("Timezone", "Unit", "DocInfo", "Description"):
        return [], True
    words = {name: value for name, value in getattr(item, "__dict__", {}).items() if value is not None}
    if kind == "PydanticGeneralMetadata" or kind == "_PydanticGeneralMetadata":
        return [(name, value) for name, value in words.items() if name in _LIMITS], set(words) <= set(_LIMITS)
    return [], False


class ConstrainedShape(Shape):
    """A shape with limits on what it gives."""

    def __init__(self, inner: Shape, limits: list[tuple[str, Any]]) -> None:
        self._inner, self._limits = inner, limits
        self.exact, self.name = inner.exact, inner.name

    def load(self, value: Any, path: str, problems: Problems) -> Any:
        count = len(problems)
        made = self._inner.load(value, path, problems)
        if len(problems) > count:
            return None
        for name, limit in self._limits:
            words = _broken(name, limit, made)
            if words is not None:
                problems.append({"path": path, "message": f"expected {words}, got {show(value)}"})
        return made

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        schema: dict[str, Any] = {}
        rules: dict[str, dict[str, Any]] = {}
        kinds = _kinds(self._inner)
        for name, limit in self._limits:
            if name in _KEYWORDS or name == "multiple_of":
                _limit_numbers(name, limit, kinds, schema, rules)
            elif name in ("min_length", "max_length"):
                _limit_lengths(name, limit, kinds, schema, rules)
            elif name == "pattern" and "str" in kinds:
                schema["pattern"] = _pattern(limit)
        # several rules can be told apart by nothing but their place
        every: list[dict[str, Any]] = []
        if len(kinds - {"NoneType"}) == 1:
            every = [{readings.READS: {"type": kind, **rule}} for kind, rule in rules.items()]
            if "NoneType" in kinds:
                every = [{"anyOf": [{"type": "null"}, rule]} for rule in every]
        inner = self._inner.schema(definitions)
        if not schema and not every:
            return inner
        more = {**schema, **(every[0] if every else {})}
        if len(every) <= 1 and not any(word in inner for word in (*more, "$ref")):
            return {**inner, **more}
        return {"allOf": [part for part in (inner, schema, *every) if part]}


def _broken(name: str, limit: Any, value: Any) -> str | None:
    """What `value` should have been, where it breaks the limit."""
    if value is None or isinstance(value, bool):
        return None
    try:
        if name in _COMPARED:
            words, holds = _COMPARED[name]
            if isinstance(value, (str, bytes, list, tuple, dict, set, frozenset)) or holds(value, limit):
                return None
            return f"{words} {limit}"
        if name == "multiple_of":
            return None if _divides(value, limit) else f"a multiple of {limit}"
        if name in ("min_length", "max_length"):
            size = len(value)
            if size >= limit if name == "min_length" else size <= limit:
                return None
            return f"a length of {'at least' if name == 'min_length' else 'at most'} {limit}"
        if name == "pattern":
            if not isinstance(value, str) or re.search(_pattern(limit), value):
                return None
            return f"text that matches {_pattern(limit)!r}"
        return None if limit(value) else "another value"
    except TypeError:
        # a naive date against one with a zone can't be compared; a number has no length
        return f"{_COMPARED[name][0]} {limit}" if name in _COMPARED and not hasattr(value, "__len__") else None


def _divides(value: Any, limit: Any) -> bool:
    if not hasattr(value, "__mod__") or isinstance(value, (str, bytes)):
        return True
    if isinstance(value, float) or isinstance(limit, float):
        quotient = float(value) / float(limit)  # as the coordinator counts
        return int(quotient) == quotient
    return not value % limit


def _pattern(limit: Any) -> str:
    return str(getattr(limit, "pattern", limit))


def _kinds(shape: Shape) -> set[str]:
    """What the values of a shape can be, of that which limits are about."""
    if isinstance(shape, ConstrainedShape):
        return _kinds(shape._inner)
    if isinstance(shape, UnionShape):
        return {kind for member in shape.members for kind in _kinds(member)}
    if isinstance(shape, Scalar):
        return {shape.exact[0].__name__}
    if isinstance(shape, ListShape):
        return {"set" if shape.distinct else "list"}
    return {"dict"} if isinstance(shape, MapShape) else {"other"}


def _limit_numbers(
    name: str, limit: Any, kinds: set[str], schema: dict[str, Any], rules: dict[str, dict[str, Any]]
) -> None:
    for kind, rule in (("Decimal", "decimal"), ("date", "date"), ("datetime", "datetime"), ("time", "time")):
        if kind in kinds:
            rules.setdefault(rule, {})[name] = readings.written(limit)
    seconds = limit.total_seconds() if hasattr(limit, "total_seconds") else limit
    if isinstance(seconds, (int, float)) and kinds & {"int", "float", "timedelta"}:
        schema[_KEYWORDS.get(name, "multipleOf")] = seconds


def _limit_lengths(
    name: str, limit: int, kinds: set[str], schema: dict[str, Any], rules: dict[str, dict[str, Any]]
) -> None:
    word = name[:3]
    for kind, what in (("str", "Length"), ("list", "Items"), ("dict", "Properties")):
        if kind in kinds:
            schema[word + what] = limit
    for kind, rule in (("bytes", "base64"), ("set", "distinct")):
        if kind in kinds:
            rules.setdefault(rule, {})[name] = limit
