"""A value against a schema of ours, step by step: every step is counted, and the count can be given an end.

The words are those of `vocabulary`; others (of deployments that are older than it) say nothing here, and the run
holds them. `pattern` goes to an engine without backtracking (`patterns`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from jsonschema import Draft202012Validator, ValidationError, validators
from referencing import Registry

from coordinator.tasks import patterns, readings

_state = threading.local()

#: Words that are applied; what else a schema says is for its readers, or for the run.
_APPLIED = (
    *("type", "enum", "const", "properties", "required", "additionalProperties", "propertyNames", "items"),
    *("prefixItems", "minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "format"),
    *("anyOf", "allOf", "oneOf", "not", "if", "$ref"),
)


class OutOfSteps(Exception):
    """The steps that were given are used up; nothing is known of the value."""


class Steps:
    """How many steps the checks of this thread may take; `size` is that of the value, which an error shows."""

    def __init__(self, left: float, size: int) -> None:
        self.left = left
        self._error = 5 + size // 256

    def __enter__(self) -> Steps:
        _state.steps = self
        return self

    def __exit__(self, *error: object) -> None:
        _state.steps = None

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise OutOfSteps

    def spend_error(self) -> None:
        self.spend(self._error)


def _spend(count: int) -> None:
    steps: Steps | None = getattr(_state, "steps", None)
    if steps is not None:
        steps.spend(count)


def _spend_error() -> None:
    steps: Steps | None = getattr(_state, "steps", None)
    if steps is not None:
        steps.spend_error()


Check = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]


def _counted(check: Check) -> Check:
    def counted(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        count = 1
        if isinstance(rule, (dict, list)):
            count += len(rule)
        if isinstance(instance, (dict, list)):
            count += len(instance) // 4
        elif isinstance(instance, str):
            count += len(instance) // 512
        _spend(count)
        for error in check(validator, rule, instance, schema) or ():
            _spend_error()
            yield error

    return counted


def _pattern(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(rule, str) and isinstance(instance, str):
        _spend(patterns.cost(rule, instance) // 100)
        if not patterns.fits(rule, instance):
            yield ValidationError(f"{_short(instance)} does not match {rule[:200]!r}")


def _multiple_of(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, bool) or not isinstance(instance, (int, float)) or not rule:
        return
    try:
        if isinstance(instance, int) and isinstance(rule, int):
            failed = bool(instance % rule)
        else:
            quotient = instance / rule
            failed = quotient != int(quotient)
    except (OverflowError, ValueError):
        return  # beyond what a float can tell: the run holds it
    if failed:
        yield ValidationError(f"{_short(instance)} is not a multiple of {rule}")


def _reads(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(rule, dict) and isinstance(rule.get("pattern"), str) and isinstance(instance, str):
        _spend(patterns.cost(rule["pattern"], instance) // 100)
    if isinstance(instance, (list, dict)):
        _spend(len(instance))
    yield from readings.reads(validator, rule, instance, schema)


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # more digits than Python writes
        return "the number"
    return text if len(text) <= 80 else f"{text[:80]}…"


_extend: Any = validators.create
_known = cast(dict[str, Check], Draft202012Validator.VALIDATORS)
_Validator = _extend(
    meta_schema=Draft202012Validator.META_SCHEMA,
    validators={
        **{word: _counted(_known[word]) for word in _APPLIED},
        "pattern": _counted(_pattern),
        "multipleOf": _counted(_multiple_of),
        readings.READS: _counted(_reads),
    },
    version="samovar",
    type_checker=Draft202012Validator.TYPE_CHECKER,
    format_checker=readings.formats,
)


def validator(schema: Any) -> Any:
    """What has `iter_errors`. Its registry is empty: nothing is ever fetched for a schema."""
    return _Validator(schema, registry=Registry(), format_checker=readings.formats)
