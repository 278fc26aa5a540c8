"""What the JSON Schema of a payload says of the places in it: their titles, what they hold, what they are for."""

from __future__ import annotations

from typing import Any

_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}
#: References that are followed from one place, and schemas within schemas that are put in words.
_MOST_STEPS, _MOST_WORDS = 16, 4


class Place:
    """One place of a value. Of one that its schema says nothing of, all is empty."""

    def __init__(self, schema: Any, value: Any = None, defined: dict[str, Any] | None = None) -> None:
        """`defined`: what references may lead to, by name; of the whole schema itself its own."""
        whole = schema if isinstance(schema, dict) else {}
        self._defined: dict[str, Any] = whole.get("$defs") or {} if defined is None else defined
        own = self._followed(whole)
        self._schema = self._meant(own, value)
        #: What it is for.
        self.words = str(own.get("description") or self._schema.get("description") or "")
        self.label = ", ".join(filter(None, (_text(own.get("title")), self._kind(own))))

    def of(self, name: str | int, value: Any) -> Place:
        """The place of that field, or of that item of an array."""
        return Place(self._inner(name), value, self._defined)

    def _inner(self, name: str | int) -> Any:
        here = self._schema
        if isinstance(name, int):
            first = here.get("prefixItems") or []
            return first[name] if name < len(first) else here.get("items")
        fields = here.get("properties") or {}
        return fields[name] if name in fields else here.get("additionalProperties")

    def _followed(self, schema: Any) -> dict[str, Any]:
        """Where a reference leads to; what stands beside the reference goes before what is there."""
        found = schema if isinstance(schema, dict) else {}
        for _ in range(_MOST_STEPS):
            if "$ref" not in found:
                return found
            there = self._defined.get(str(found["$ref"]).rpartition("/")[2])
            found = {
                **(there if isinstance(there, dict) else {}),
                **{k: v for k, v in found.items() if k != "$ref"},
            }
        return {}

    def _choices(self, schema: dict[str, Any]) -> list[dict[str, Any]]:
        return [self._followed(one) for one in schema.get("anyOf") or schema.get("oneOf") or []]

    def _meant(self, schema: dict[str, Any], value: Any) -> dict[str, Any]:
        """Of several schemas the one that the value keeps to, as far as its fields tell."""
        fitting = [one for one in self._choices(schema) if _fits(one, value)]
        if not fitting:
            return schema
        known = value.keys() if isinstance(value, dict) else ()
        return max(fitting, key=lambda one: len(known & (one.get("properties") or {}).keys()))

    def _kind(self, schema: dict[str, Any], left: int = _MOST_WORDS) -> str:
        """What it holds, in words."""
        if left == 0:
            return ""
        if choices := self._choices(schema):
            return " or ".join(dict.fromkeys(filter(None, (self._kind(one, left - 1) for one in choices))))
        if isinstance(schema.get("enum"), list):
            return f"one of {len(schema['enum'])}"
        if "const" in schema:
            return "constant"
        kind = schema.get("type")
        if isinstance(kind, list):
            return " or ".join(map(str, kind))
        if kind == "array" and (inner := self._kind(self._followed(schema.get("items")), left - 1)):
            return f"array of {inner}"
        return str(schema.get("format") or kind or "")


def _text(title: Any) -> str:
    return title if isinstance(title, str) else ""


def _fits(schema: dict[str, Any], value: Any) -> bool:
    kinds = schema.get("type")
    if kinds is None:
        return value in schema["enum"] if isinstance(schema.get("enum"), list) else True
    known = [_TYPES[one] for one in (kinds if isinstance(kinds, list) else [kinds]) if one in _TYPES]
    return any(isinstance(value, one) and (one is bool or not isinstance(value, bool)) for one in known)
