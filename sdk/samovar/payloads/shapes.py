"""Shapes of classes with fields: dataclass, TypedDict, NamedTuple, and pydantic models where a project has them.

Fields are compiled at first use, not when the class is seen, so that a class may contain itself.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from samovar.payloads.schema import Definitions, Problems, Shape, compile_type, hints

_cache: dict[type, Shape] = {}


def class_shape(kind: type) -> Shape | None:
    """The shape of `kind`, or None where it is none of these."""
    if kind not in _cache:
        shape = _make(kind)
        if shape is None:
            return None
        _cache[kind] = shape
    return _cache[kind]


def _make(kind: Any) -> Shape | None:
    if callable(getattr(kind, "model_validate", None)) and callable(getattr(kind, "model_json_schema", None)):
        return ModelShape(kind)
    if dataclasses.is_dataclass(kind):
        return DataclassShape(kind)
    if issubclass(kind, dict) and hasattr(kind, "__total__"):
        return TypedDictShape(kind)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return NamedTupleShape(kind)
    return None


class Fields(Shape):
    """An object with known fields and no others."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
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
        name = definition_name(self.kind, definitions)
        if name not in definitions:
            definitions[name] = {"x-class": _address(self.kind)}  # before its fields: they may refer back to it
            definitions[name].update(fields_schema(self.fields, definitions))
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


def definition_name(kind: Any, definitions: Definitions) -> str:
    """The name of `kind` in `$defs`: its own, numbered where two modules have classes of one name."""
    base: str = kind.__name__
    name, number = base, 1
    while name in definitions and definitions[name].get("x-class") != _address(kind):
        number += 1
        name = f"{base}{number}"
    return name


def _address(kind: Any) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


class DataclassShape(Fields):
    def compile(self) -> dict[str, tuple[Shape, bool]]:
        types = hints(self.kind)
        return {
            field.name: (
                compile_type(types[field.name]),
                field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
            )
            for field in dataclasses.fields(self.kind)
            if field.init
        }

    def load(self, value: Any, path: str, problems: Problems) -> Any:
        return value if isinstance(value, self.kind) else super().load(value, path, problems)

    def make(self, values: dict[str, Any]) -> Any:
        return self.kind(**values)


class TypedDictShape(Fields):
    def compile(self) -> dict[str, tuple[Shape, bool]]:
        fields = {}
        for name, annotation in hints(self.kind).items():
            required = name in self.kind.__required_keys__
            # under `from __future__ import annotations` the class itself can't tell: the words are in a string
            marker = getattr(typing.get_origin(annotation), "_name", None)
            if marker in ("Required", "NotRequired"):
                required, annotation = marker == "Required", typing.get_args(annotation)[0]
            fields[name] = (compile_type(annotation), required)
        return fields

    def make(self, values: dict[str, Any]) -> Any:
        return values


class NamedTupleShape(Fields):
    """Written as a list, or as an object with the fields' names."""

    def __init__(self, kind: Any) -> None:
        super().__init__(kind)
        self.exact = (dict, list)
        self.name = f"a list or an object ({kind.__name__})"

    def compile(self) -> dict[str, tuple[Shape, bool]]:
        types = hints(self.kind)
        return {
            name: (compile_type(types.get(name, Any)), name not in self.kind._field_defaults)
            for name in self.kind._fields
        }

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
        as_list = {"type": "array", "prefixItems": items, "minItems": least, "maxItems": len(items)}
        return {"anyOf": [as_list, as_object]}


class ModelShape(Shape):
    """A pydantic model, known by its methods: the SDK itself never imports pydantic."""

    exact = (dict,)

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.name = f"an object ({kind.__name__})"

    def load(self, value: Any, path: str, problems: Problems) -> Any:
        try:
            return self.kind.model_validate(value)
        except ValueError as error:
            details = getattr(error, "errors", None)
            if not callable(details):
                problems.append({"path": path, "message": str(error)})
                return None
            for detail in details():
                place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"])
                problems.append({"path": path + place, "message": detail["msg"]})
            return None

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        name = definition_name(self.kind, definitions)
        if name not in definitions:
            schema = self.kind.model_json_schema(ref_template="#/$defs/{model}")
            nested = schema.pop("$defs", {})
            for other, body in nested.items():
                definitions.setdefault(other, body)
            definitions[name] = {"x-class": _address(self.kind), **nested.get(name, schema)}
        return {"$ref": f"#/$defs/{name}"}
