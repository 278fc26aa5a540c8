"""What the JSON Schema of a task may say: the words that the SDK writes, each of its kind, so many and so deep.

A deployment's schema is a deployer's data. It is walked once, in time that goes with its size, and refused for any
word that the SDK never writes: what checks payloads (`validation`) knows no other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from coordinator.tasks import readings

_MOST_NODES = 20_000
_DEEPEST = 64
_LONGEST_TEXT = 20_000
_LONGEST_PATTERN = 4096
_MOST_CHOICES = 5_000
_MOST_MEMBERS = 2_000
_MOST_BRANCHES = 500
_KINDS = frozenset(("integer", "number", "string", "boolean", "array", "object", "null"))
_FORMATS = frozenset(("date-time", "date", "time", "uuid", "decimal", "base64"))
_REMEDY = "deploy with the samovar SDK, which writes the schema, and annotate the parameter with a simpler type"


class _Wrong(Exception):
    """What is wrong, and where: `#/properties/x/…`."""


def problem(schema: Any) -> str | None:
    """Why a schema is not taken, with the place and the remedy; None where it is."""
    try:
        _Walk().schema(schema, "#", 0)
        _check_references(schema)
    except _Wrong as error:
        return f"{error}; {_REMEDY}"
    return None


class _Walk:
    def __init__(self) -> None:
        self._nodes = 0

    def schema(self, node: Any, place: str, depth: int) -> None:
        self._count(place, depth)
        if isinstance(node, bool):
            return
        if not isinstance(node, dict):
            raise _Wrong(f"{place}: a schema is an object, true or false")
        for word, value in node.items():
            self._word(word, value, f"{place}/{word[:80]}", depth + 1)

    def _count(self, place: str, depth: int, nodes: int = 1) -> None:
        self._nodes += nodes
        if self._nodes > _MOST_NODES:
            raise _Wrong(f"{place}: the schema has more than {_MOST_NODES} nodes")
        if depth > _DEEPEST:
            raise _Wrong(f"{place}: is nested more than {_DEEPEST} deep")

    def _word(self, word: str, value: Any, place: str, depth: int) -> None:
        if word in ("items", "additionalProperties", "propertyNames", "not", "if", "then", "else"):
            self.schema(value, place, depth)
        elif word in ("anyOf", "allOf", "oneOf", "prefixItems"):
            if not isinstance(value, list) or len(value) > _MOST_BRANCHES:
                raise _Wrong(f"{place}: is a list of at most {_MOST_BRANCHES} schemas")
            for number, item in enumerate(value):
                self.schema(item, f"{place}/{number}", depth)
        elif word in ("properties", "$defs"):
            if not isinstance(value, dict) or len(value) > _MOST_MEMBERS:
                raise _Wrong(f"{place}: is an object of at most {_MOST_MEMBERS} schemas")
            for name, item in value.items():
                self.schema(item, f"{place}/{name[:80]}", depth)
        elif word in ("default", "examples", "const"):
            self._value(value, place, depth)
        elif word == "enum":
            if not isinstance(value, list) or not 1 <= len(value) <= _MOST_CHOICES:
                raise _Wrong(f"{place}: is a list of 1 to {_MOST_CHOICES} values")
            self._value(value, place, depth)
        elif word == readings.READS:
            self._rule(value, place, depth)
        elif word.startswith("x-samovar-"):
            self._value(value, place, depth)
        elif (holds := _WORDS.get(word)) is None:
            raise _Wrong(f"{place}: the word {word[:80]!r} is not one that the SDK writes")
        elif not holds(value):
            raise _Wrong(f"{place}: {str(value)[:80]!r} is no value of {word!r} that can be checked")

    def _rule(self, value: Any, place: str, depth: int) -> None:
        self._value(value, place, depth)
        for word in ("expected", "values"):
            if isinstance(value, dict) and len(value.get(word) or ()) > _MOST_CHOICES:
                raise _Wrong(f"{place}/{word}: is a list of at most {_MOST_CHOICES} values")
        if found := readings.problem(value):
            raise _Wrong(f"{place}: {found}")

    def _value(self, value: Any, place: str, depth: int) -> None:
        """Any JSON, which is compared or shown, and never followed."""
        self._count(place, depth)
        if isinstance(value, str) and len(value) > _LONGEST_TEXT:
            raise _Wrong(f"{place}: a text of more than {_LONGEST_TEXT} characters")
        if isinstance(value, float) and not math.isfinite(value):
            raise _Wrong(f"{place}: a number that is not finite")
        if isinstance(value, int) and value.bit_length() > 1024:
            raise _Wrong(f"{place}: a number of more than 308 digits")
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        for part in parts:
            self._value(part, place, depth + 1)


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_TEXT


def _size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 2**53


def _number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return value.bit_length() <= 1023 if isinstance(value, int) else math.isfinite(value)


def _names(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= _MOST_MEMBERS and all(isinstance(name, str) for name in value)


def _kinds(value: Any) -> bool:
    kinds = value if isinstance(value, list) else [value]
    return 0 < len(kinds) <= 16 and all(isinstance(kind, str) and kind in _KINDS for kind in kinds)


_WORDS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("title", "description", "$schema", "$comment", "contentEncoding"), _text),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _size),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _number),
    "multipleOf": lambda value: _number(value) and value > 0,
    "required": _names,
    "type": _kinds,
    "format": lambda value: isinstance(value, str) and value in _FORMATS,
    "pattern": lambda value: isinstance(value, str) and len(value) <= _LONGEST_PATTERN,
    "$ref": lambda value: (
        isinstance(value, str) and len(value) <= 512 and (value == "#" or value.startswith("#/$defs/"))
    ),
}


def _check_references(schema: Any) -> None:
    """Each is of the schema's own definitions, and none comes back to itself without going into the value."""
    definitions = schema.get("$defs", {}) if isinstance(schema, dict) else {}
    nodes: dict[str, Any] = {f"#/$defs/{_escaped(name)}": node for name, node in definitions.items()}
    nodes["#"] = schema
    for reference in references(schema):
        if reference not in nodes:
            raise _Wrong(f"refers to {reference[:80]!r}, which it does not define")
    done: set[str] = set()
    for start in nodes:
        above: list[tuple[str, Iterator[str]]] = [(start, _beside(nodes[start]))]
        open_ = {start}
        while above and start not in done:
            name, rest = above[-1]
            following = next(rest, None)
            if following is None:
                above.pop()
                open_.discard(name)
                done.add(name)
            elif following in open_:
                raise _Wrong(f"{following[:80]!r} comes back to itself without going into the value")
            elif following not in done:
                open_.add(following)
                above.append((following, _beside(nodes[following])))


def references(schema: Any) -> Iterator[str]:
    """Every `$ref`, wherever it stands."""
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            waiting += [item for word, item in node.items() if word not in ("enum", "default", "examples", "const")]
        elif isinstance(node, list):
            waiting += node


def _beside(node: Any) -> Iterator[str]:
    """The references that are followed for the same value as the node."""
    waiting = [node]
    while waiting:
        item = waiting.pop()
        if not isinstance(item, dict):
            continue
        if isinstance(item.get("$ref"), str):
            yield item["$ref"]
        for word in ("not", "if", "then", "else"):
            waiting.append(item.get(word))
        for word in ("anyOf", "allOf", "oneOf"):
            waiting += item.get(word, ())


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
