"""Shapes of classes with fields: dataclass, TypedDict, NamedTuple; pydantic's own are in models.py.

Fields are compiled at first use, not when the class is seen, so that a class may contain itself.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from samovar.payloads import hints
from samovar.payloads.definitions import Definitions
from samovar.payloads.shape import Compile, Problems, Shape, or_null

_cache: dict[Hashable, Shape] = {}


def class_shape(kind: type, arguments: tuple[Any, ...], compile: Compile) -> Shape | None:
    """The shape of `kind`, or None where it is none of these; `arguments` are those of a generic one."""
    key: Hashable = (kind, arguments)
    try:
        known = _cache.get(key)
    except TypeError:  # an argument that has no hash
        key = (kind, repr(arguments))
        known = _cache.get(key)
    if known is None:
        known = _make(kind, arguments, compile)
        if known is None:
            return None
        _cache[key] = known
    return known


def _make(kind: Any, arguments: tuple[Any, ...], compile: Compile) -> Shape | None:
    from samovar.payloads.models import ModelShape, is_pydantic

    if is_pydantic(kind):
        return ModelShape(kind[arguments] if arguments else kind)
    if hasattr(kind, "__dataclass_fields__"):
        return DataclassShape(kind, arguments, compile)
    if issubclass(kind, dict) and hasattr(kind, "__total__"):
        return TypedDictShape(kind, arguments, compile)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return NamedTupleShape(kind, arguments, compile)
    return None


class Fields(Shape):
    """An object with known fields and no others."""

    def __init__(self, kind: Any, arguments: tuple[Any, ...], compile: Compile) -> None:
        self.kind = kind
        #: What a generic class was given, `(int,)` in `Box[int]`.
        self.arguments = arguments
        self._compile_type = compile
        self.exact = (dict,)
        self.name = f"an object ({kind.__name__})"
        self._compiled: dict[str, tuple[Shape, bool]] | None = None

    def compile(self) -> dict[str, tuple[Shape, bool]]:
        """Name → shape, and whether the field must be given."""
        raise NotImplementedError

    def make(self, values: dict[str, Any]) -> Any:
        raise NotImplementedError

    @property
    def fields(self) -> dict[str, tuple[Shape, bool]]:
        if self._compiled is None:
            self._compiled = self.compile()
        return self._compiled

    def load(self, value: Any, path: str, problems: Problems) -> Any:
        if not isinstance(value, dict):
            return self.refuse(value, path, problems)
        count = len(problems)
        values = load_fields(self.fields, value, f"{path}.", problems)
        if len(problems) > count:
            return None
        try:
            return self.make(values)
        except (ValueError, TypeError) as error:  # __post_init__ may refuse
            problems.append({"path": path, "message": str(error) or type(error).__name__})
            return None

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        words = "".join(f"_{getattr(argument, '__name__', argument)}" for argument in self.arguments)
        kind = self.kind
        name, is_new = definitions.name(
            self, kind.__name__ + words, f"{kind.__module__}.{kind.__qualname__}{words}"
        )
        if is_new:
            definitions[name].update({"title": kind.__name__, **fields_schema(self.fields, definitions)})
        return {"$ref": f"#/$defs/{name}"}


def load_fields(
    fields: dict[str, tuple[Shape, bool]], value: dict[str, Any], prefix: str, problems: Problems
) -> dict[str, Any]:
    """The converted fields of `value`; missing and unknown ones are problems too."""
    values = {}
    for name, (shape, required) in fields.items():
        if name in value:
            values[name] = shape.load(value[name], prefix + name, problems)
        elif required:
            problems.append({"path": prefix + name, "message": f"missing: give {shape.name}"})
    for name in value:
        if name not in fields:
            problems.append(
                {"path": f"{prefix}{name}", "message": f"unknown; known are {', '.join(fields) or 'none'}"}
            )
    return values


def fields_schema(fields: dict[str, tuple[Shape, bool]], definitions: Definitions) -> dict[str, Any]:
    """The JSON Schema of an object with these fields and no others."""
    return {
        "type": "object",
        "properties": {name: shape.schema(definitions) for name, (shape, _) in fields.items()},
        "required": [name for name, (_, required) in fields.items() if required],
        "additionalProperties": False,
    }


class DataclassShape(Fields):
    def compile(self) -> dict[str, tuple[Shape, bool]]:
        import dataclasses  # which is there, as there is one

        # an InitVar is given like a field, and is none
        given = {
            name: field
            for name, field in self.kind.__dataclass_fields__.items()
            if field.init and getattr(field._field_type, "name", "") != "_FIELD_CLASSVAR"
        }
        types = hints.of_fields(self.kind, given, self.arguments)
        fields = {}
        for name, field in given.items():
            annotation, _ = hints.bare(types.get(name, field.type))
            if isinstance(annotation, dataclasses.InitVar):
                annotation = annotation.type
            shape = self._compile_type(annotation)
            if field.default is None:
                shape = or_null(shape)
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            fields[name] = (shape, required)
        return fields

    def load(self, value: Any, path: str, problems: Problems) -> Any:
        return value if isinstance(value, self.kind) else super().load(value, path, problems)

    def make(self, values: dict[str, Any]) -> Any:
        return self.kind(**values)


class TypedDictShape(Fields):
    def compile(self) -> dict[str, tuple[Shape, bool]]:
        names = list(self.kind.__annotations__)
        types = hints.of_fields(self.kind, names, self.arguments)
        fields = {}
        for name in names:
            # under `from __future__ import annotations` the class itself can't tell: the words are in a string
            annotation, words = hints.bare(types[name])
            required = name in self.kind.__required_keys__
            if "NotRequired" in words or "Required" in words:
                required = "Required" in words
            fields[name] = (self._compile_type(annotation), required)
        return fields

    def make(self, values: dict[str, Any]) -> Any:
        return values


class NamedTupleShape(Fields):
    """Written as a list, or as an object with the fields' names."""

    def __init__(self, kind: Any, arguments: tuple[Any, ...], compile: Compile) -> None:
        super().__init__(kind, arguments, compile)
        self.exact = (dict, list)
        self.name = f"a list or an object ({kind.__name__})"

    def compile(self) -> dict[str, tuple[Shape, bool]]:
        types = hints.of_fields(self.kind, self.kind._fields, self.arguments)
        fields = {}
        for name in self.kind._fields:
            shape = self._compile_type(hints.bare(types.get(name, Any))[0])
            if self.kind._field_defaults.get(name, ...) is None:
                shape = or_null(shape)
            fields[name] = (shape, name not in self.kind._field_defaults)
        return fields

    def load(self, value: Any, path: str, problems: Problems) -> Any:
        if isinstance(value, (list, tuple)):
            if len(value) > len(self.fields):
                return self.refuse(value, path, problems)
            value = dict(zip(self.fields, value))
        return super().load(value, path, problems)

    def make(self, values: dict[str, Any]) -> Any:
        return self.kind(**values)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        as_object = super().schema(definitions)
        items = [shape.schema(definitions) for shape, _ in self.fields.values()]
        least = sum(required for _, required in self.fields.values())
        prefix = {"prefixItems": items} if items else {}
        as_list = {"type": "array", **prefix, "minItems": least, "maxItems": len(items)}
        return {"anyOf": [as_list, as_object]}
