"""What a scalar may be written as in JSON: standard keywords for anybody, and the exact rule for the coordinator.

`x-samovar-reads` is a rule: `{"type": …}` with the limits of pydantic's core schema of that type, all of it JSON
(dates and decimals as text, durations in seconds), and `config`, the model's settings that bear on it. Types of our
own: `base64` (bytes of `min_length` to `max_length`), `distinct` (a list of so many different items), `address` (an
IP address, network or interface), `json` (text that is JSON).
"""

from __future__ import annotations

import datetime
import decimal
import re
from typing import Any

READS = "x-samovar-reads"

#: Scalars of pydantic's core schema that have a rule.
TYPES = frozenset(
    (
        *("bool", "int", "float", "decimal", "str", "bytes", "date", "time", "datetime", "timedelta", "uuid"),
        *("url", "multi-host-url", "literal", "enum"),
    )
)
_LIMITS = ("ge", "gt", "le", "lt", "multiple_of")
#: What a rule may say besides its type.
KEYS = frozenset(
    (
        *_LIMITS,
        *("strict", "allow_inf_nan", "max_digits", "decimal_places", "min_length", "max_length", "pattern"),
        *("strip_whitespace", "to_lower", "to_upper", "coerce_numbers_to_str", "now_op", "now_utc_offset"),
        *("tz_constraint", "microseconds_precision", "version", "allowed_schemes", "host_required"),
        *("expected", "values", "sub_type", "config", "kind"),
    )
)
#: JSON types that are read without `strict`.
_LAX: dict[str, list[str]] = {
    "bool": ["boolean", "number", "string"],
    "int": ["integer", "string", "boolean"],
    "float": ["number", "string", "boolean"],
    "decimal": ["number", "string"],
    "str": ["string"],
    "bytes": ["string"],
    "date": ["string", "number"],
    "time": ["string", "number"],
    "datetime": ["string", "number"],
    "timedelta": ["string", "number"],
    "uuid": ["string"],
    "url": ["string"],
    "multi-host-url": ["string"],
}
_STRICT = {**_LAX, "bool": ["boolean"], "int": ["integer"], "float": ["number"]}
_TRUTHS = "^(0|1|[Oo][Nn]|[Oo][Ff][Ff]|[TtFfYyNn]|[Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]|[Yy][Ee][Ss]|[Nn][Oo])$"
_PATTERNS = {"int": r"^\s*[+-]?[0-9][0-9_]*(\.0*)?\s*$", "bool": _TRUTHS, "float": r"^\s*\S+\s*$"}
#: Patterns that mean the same in every dialect of regular expressions.
_COMMON = re.compile(
    r"(?:[A-Za-z0-9 _@:;,/#=~!<>&%'\"+*|.^$()-]|\[[^\\\[\]]*\]|\{\d+(,\d*)?\}"
    r"|\\[dws.+*?()|-]|\?(?![:<=!P]))*"
)


def scalar(node: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a scalar of a core schema, under these settings of its model."""
    kind = str(node["type"])
    rule: dict[str, Any] = {"type": kind}
    for name, value in node.items():
        if name in KEYS and value is not None and name not in ("config", "kind"):
            part = written(value)
            if part is not None:
                rule[name] = part
    engine = node.get("regex_engine", config.get("regex_engine"))
    config = {name: value for name, value in config.items() if name != "regex_engine"}
    if config:
        rule["config"] = config
    if engine == "python-re" or not isinstance(node.get("pattern", ""), str):
        rule.pop("pattern", None)  # it could take for ever; the run holds it
    if kind == "literal":
        return _literal(node["expected"], rule)
    if kind == "enum":
        return _enum(node, rule)
    is_strict = bool(node.get("strict", config.get("strict", False)))
    types = list((_STRICT if is_strict else _LAX)[kind])
    if kind == "str" and (node.get("coerce_numbers_to_str") or config.get("coerce_numbers_to_str")):
        types.append("number")
    schema: dict[str, Any] = {"type": types if len(types) > 1 else types[0]}
    if kind in ("int", "float"):
        words = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
        schema.update({words[name]: rule[name] for name in words if isinstance(rule.get(name), (int, float))})
    if kind == "str":
        schema.update(_text(rule, config))
    elif kind in _PATTERNS and not is_strict:
        schema["pattern"] = _PATTERNS[kind]
    return {**schema, READS: rule}


def _text(rule: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    strips = rule.get("strip_whitespace", config.get("str_strip_whitespace"))
    changes = strips or any(rule.get(word, config.get(f"str_{word}")) for word in ("to_lower", "to_upper"))
    words: dict[str, Any] = {}
    least = rule.get("min_length", config.get("str_min_length"))
    most = rule.get("max_length", config.get("str_max_length"))
    if least:
        words["minLength"] = least
    if most is not None and not strips:
        words["maxLength"] = most
    pattern = rule.get("pattern")
    if pattern is not None and not changes and _COMMON.fullmatch(pattern):
        words["pattern"] = pattern
    return words


def _literal(expected: list[Any], rule: dict[str, Any]) -> dict[str, Any]:
    # an Enum's member in a Literal is never written in JSON, but what is text or a number besides is
    parts = [value for value in expected if value is None or type(value) in (bool, int, str)]
    if len(parts) < len(expected):
        import enum

        if not all(isinstance(value, enum.Enum) for value in expected if value not in parts):
            return {}
        # a member that is text itself is compared as text
        parts += [
            value.value
            for value in expected
            if isinstance(value, enum.Enum) and isinstance(value, (str, int)) and type(value.value) in (str, int)
        ]
    rule["expected"] = parts
    if not parts:
        return {"not": {}}
    return {"enum": _numbers_too(parts), READS: rule}


def _enum(node: dict[str, Any], rule: dict[str, Any]) -> dict[str, Any]:
    missing = node.get("missing")
    if missing is not None:
        return {}  # the class finds members for other values by itself
    values = [member.value for member in node["members"]]
    # values of other types have no JSON that pydantic would find them by
    plain = [value for value in values if value is None or type(value) in (bool, int, float, str)]
    if any(isinstance(value, decimal.Decimal) for value in values):
        return {}
    if not plain:
        return {"not": {}}
    rule["values"] = plain
    rule.pop("expected", None)
    if node.get("sub_type") in ("int", "float") and not rule.get("strict"):
        return {"type": [*_LAX[node["sub_type"]], "number"], READS: rule}
    return {"enum": _numbers_too(plain), READS: rule}


def _numbers_too(values: list[Any]) -> list[Any]:
    """`values`, with the booleans that stand for 1 and 0, and the numbers that stand for true and false."""
    more: list[Any] = []
    for value in values:
        if isinstance(value, bool):
            more.append(int(value))
        elif value in (0, 1) and not isinstance(value, str):
            more.append(bool(value))
    return [*values, *more]


def distinct(least: int | None, most: int | None) -> dict[str, Any]:
    """Keywords of a list that becomes a set of `least` to `most` items."""
    rule: dict[str, Any] = {"type": "distinct"}
    words: dict[str, Any] = {}
    if least:
        rule["min_length"] = words["minItems"] = least
    if most is not None:
        rule["max_length"] = most
    return {**words, READS: rule} if len(rule) > 1 else {}


def address(kind: str) -> dict[str, Any]:
    """An IP address, network or interface: `kind` is the name of its class in `ipaddress`."""
    return {"type": ["string", "integer", "boolean"], READS: {"type": "address", "kind": kind}}


def json_text() -> dict[str, Any]:
    """Text that holds JSON."""
    return {"type": "string", READS: {"type": "json"}}


def written(value: Any) -> Any:
    """A part of a rule as JSON; None where it has no form."""
    if isinstance(value, (bool, int, float, str)) and not hasattr(value, "value"):
        return value
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    return None
