"""Values as the types of a project's models read them: the two words that JSON Schema lacks.

`x-samovar-reads` is a rule that the SDK wrote beside a scalar (sdk/samovar/payloads/readings.py): pydantic
applies it here as it does in the run, so that what a model accepts, the API accepts ("5" for an int), and what it
refuses is refused before a container starts. The rules came out of an image, so only known types with known words
are built, and none of them runs code or a pattern that could take for ever (pydantic's patterns take linear
time).

The formats are those of the SDK's own types: `date-time`, `date`, `time`, `uuid`, `decimal`, `base64`.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import enum
import functools
import ipaddress
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any, cast

from jsonschema import FormatChecker, ValidationError
from pydantic_core import SchemaValidator
from pydantic_core import ValidationError as Unread

from coordinator.tasks import patterns

READS = "x-samovar-reads"

_SCALARS = frozenset(
    (
        *("bool", "int", "float", "decimal", "str", "bytes", "date", "time", "datetime", "timedelta", "uuid"),
        *("url", "multi-host-url", "literal"),
    )
)
_WORDS = frozenset(
    (
        *("strict", "ge", "gt", "le", "lt", "multiple_of", "allow_inf_nan", "max_digits", "decimal_places"),
        *("min_length", "max_length", "pattern", "strip_whitespace", "to_lower", "to_upper", "now_op"),
        *("coerce_numbers_to_str", "now_utc_offset", "tz_constraint", "microseconds_precision", "version"),
        *("allowed_schemes", "host_required", "expected"),
    )
)
_SETTINGS = frozenset(
    (
        *("strict", "allow_inf_nan", "coerce_numbers_to_str", "str_strip_whitespace", "str_to_lower"),
        *("str_to_upper", "str_min_length", "str_max_length", "val_json_bytes", "val_temporal_unit"),
    )
)
_ADDRESSES = {f"IPv{version}{what}" for version in (4, 6) for what in ("Address", "Network", "Interface")}
_ADDRESSES |= {"ip_address", "ip_network", "ip_interface"}
_LIMITS: dict[str, Callable[[Any], Any]] = {
    "decimal": lambda value: decimal.Decimal(str(value)),
    "date": datetime.date.fromisoformat,
    "datetime": datetime.datetime.fromisoformat,
    "time": datetime.time.fromisoformat,
    "timedelta": lambda value: datetime.timedelta(seconds=value),
}

#: Says why a value is not read, or None where it is.
Reading = Callable[[Any], str | None]


def problem(rule: Any) -> str | None:
    """Why a rule can't be applied, or None."""
    if not isinstance(rule, dict):
        return "a rule is an object"
    try:
        _reading(json.dumps(rule, sort_keys=True))
    except Exception as error:  # pydantic's errors of a schema have no common class
        return f"holds a rule that can't be applied: {str(error)[:300]}"
    return None


def is_whole(rule: Any) -> bool:
    """Whether a rule says all that the standard keywords beside it say."""
    return isinstance(rule, dict) and rule.get("type") in (*_SCALARS, "enum", "address")


def reads(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    found = _reading(json.dumps(rule, sort_keys=True))(instance)
    if found is not None:
        yield ValidationError(found)


@functools.lru_cache(2048)
def _reading(text: str) -> Reading:
    rule = json.loads(text)
    kind = rule.get("type") if isinstance(rule, dict) else None
    if kind in _SCALARS:
        return _by_pydantic(_scalar(kind, rule), rule)
    if kind == "enum":
        members = {f"member{number}": value for number, value in enumerate(rule["values"])}
        cls: Any = enum.Enum("Choice", members)  # type: ignore[misc]
        core = {"type": "enum", "cls": cls, "members": list(cls)}
        core |= {word: rule[word] for word in ("strict", "sub_type") if word in rule}
        return _by_pydantic(core, rule)
    if kind == "distinct":
        return functools.partial(_distinct, rule.get("min_length", 0), rule.get("max_length"))
    if kind == "base64":
        return functools.partial(_bytes, rule.get("min_length", 0), rule.get("max_length"))
    if kind == "address" and rule.get("kind") in _ADDRESSES:
        return functools.partial(_address, rule["kind"])
    if kind == "json":
        return _json
    return lambda instance: None  # of a later SDK: the run holds it


def _scalar(kind: str, rule: dict[str, Any]) -> dict[str, Any]:
    core = {"type": kind, **{word: rule[word] for word in _WORDS if word in rule}}
    if "pattern" in core and patterns.weigh(str(core["pattern"])) is None:
        del core["pattern"]  # left to the run
    convert = _LIMITS.get(kind)
    for word in ("ge", "gt", "le", "lt", "multiple_of"):
        if word in core and convert is not None:
            core[word] = convert(core[word])
    return core


def _by_pydantic(core: dict[str, Any], rule: dict[str, Any]) -> Reading:
    given = rule.get("config")
    settings = {name: value for name, value in given.items() if name in _SETTINGS} if given else {}
    validator = SchemaValidator(cast(Any, core), cast(Any, settings))

    def read(instance: Any) -> str | None:
        try:
            validator.validate_json(json.dumps(instance))
        except Unread as error:
            return str(error.errors(include_url=False)[0]["msg"])[:300]
        except Exception:  # a decimal beyond what can be divided, a number with too many digits
            return "Input is beyond what can be checked"
        return None

    return read


def _distinct(least: int, most: int | None, instance: Any) -> str | None:
    if not isinstance(instance, list):
        return None
    count = len({json.dumps(_number(item), sort_keys=True) for item in instance})
    if count < least:
        return f"has {count} different items, at least {least} are wanted"
    return f"has {count} different items, at most {most} are wanted" if most is not None and count > most else None


def _number(value: Any) -> Any:
    """1.0 as 1: they are one item of a set."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _bytes(least: int, most: int | None, instance: Any) -> str | None:
    try:
        size = len(base64.b64decode(instance, validate=True))
    except (ValueError, TypeError):
        return None  # the format says that
    if size < least:
        return f"is {size} bytes, at least {least} are wanted"
    return f"is {size} bytes, at most {most} are wanted" if most is not None and size > most else None


def _address(kind: str, instance: Any) -> str | None:
    try:
        if isinstance(instance, (str, int)):
            getattr(ipaddress, kind)(instance)
            return None
    except ValueError:
        pass
    return f"Input is not a valid {kind.replace('_', ' ')}"


def _json(instance: Any) -> str | None:
    try:
        json.loads(instance)
    except (ValueError, TypeError, RecursionError):
        return "JSON input should be text that is valid JSON"
    return None


formats = FormatChecker(formats=())


@formats.checks("date-time", ValueError)
def _is_datetime(instance: object) -> bool:
    return not isinstance(instance, str) or bool(datetime.datetime.fromisoformat(instance))


@formats.checks("date", ValueError)
def _is_date(instance: object) -> bool:
    return not isinstance(instance, str) or bool(datetime.date.fromisoformat(instance))


@formats.checks("time", ValueError)
def _is_time(instance: object) -> bool:
    return not isinstance(instance, str) or datetime.time.fromisoformat(instance) is not None


@formats.checks("uuid", ValueError)
def _is_uuid(instance: object) -> bool:
    return not isinstance(instance, str) or bool(uuid.UUID(instance).hex)


@formats.checks("decimal", (ValueError, decimal.InvalidOperation))
def _is_decimal(instance: object) -> bool:
    return not isinstance(instance, str) or decimal.Decimal(instance).is_finite()


@formats.checks("base64", ValueError)
def _is_base64(instance: object) -> bool:
    if isinstance(instance, str):
        base64.b64decode(instance, validate=True)
    return True
