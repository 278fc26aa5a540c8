"""A payload against its task's JSON Schema: every wrong field, each in a sentence."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from typing import Any, cast

from jsonschema import ValidationError
from referencing.exceptions import Unresolvable

from coordinator.foundation.errors import Invalid
from coordinator.foundation.near import near
from coordinator.tasks import checking, readings, validation
from coordinator.tasks.validation import OutOfSteps, Steps
from coordinator.wire import FieldProblem

_MOST = 50
_SHOWN = 80
_PATH, _MESSAGE = 512, 1000
#: Bytes of a payload that may be checked here, and steps that this may take: some hundredths of a second.
_SMALL = 64 * 1024
_STEPS = 20_000

_KINDS = {
    "integer": "an integer",
    "number": "a number",
    "string": "text",
    "boolean": "a boolean",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


class Payloads:
    """Checks payloads, with the validators of the tasks last asked for kept.

    What is small is checked here, in so many steps and no more. What is not goes to a process that is killed at its
    deadline (`checking`), and never while a transaction is held.
    """

    def __init__(self, keep: int = 512) -> None:
        self._keep = keep
        self._validators: dict[str, Any] = {}
        self._lock = threading.Lock()

    def check(
        self,
        deployment: str,
        task: str,
        schema: str,
        payload: dict[str, Any],
        project: str = "",
        text: str | None = None,
    ) -> None:
        """Raises Invalid (code `bad_payload`) that names every field that is wrong, up to 50.

        `text`: the payload as JSON, where that was made already. Raises Again (foundation.again) in a transaction,
        where the check takes longer than one may be held for it.
        """
        try:
            if text is None:
                text = json.dumps(payload, default=str)
            size = len(text.encode())
            problems = self._here(schema, payload, size) if size <= _SMALL else None
            if problems is None:
                problems = checking.check(project or deployment, schema, text)
        except RecursionError:
            problems = [FieldProblem(path="payload", message="is nested too deeply")]
        if problems:
            listing = "; ".join(f"{p.path}: {p.message}" for p in problems)
            raise Invalid(f"the payload of {task!r} is wrong: {listing}", code="bad_payload", fields=problems)

    def _here(self, schema: str, payload: Any, size: int) -> list[FieldProblem] | None:
        """The problems; None where that takes more than a few steps."""
        try:
            return find(self._validator(schema), payload, size, _STEPS)
        except OutOfSteps:
            return None

    def _validator(self, schema: str) -> Any:
        with self._lock:
            found = self._validators.pop(schema, None)
            if found is None:
                found = validation.validator(json.loads(schema))
            self._validators[schema] = found
            while len(self._validators) > self._keep:
                del self._validators[next(iter(self._validators))]
        return found


def find(validator: Any, payload: Any, size: int, steps: float) -> list[FieldProblem]:
    """The first 50 problems in the order of their places. Raises OutOfSteps."""
    found: dict[tuple[str, str], FieldProblem] = {}
    try:
        with Steps(steps, size):
            for problem in _problems(validator.iter_errors(payload)):
                short = FieldProblem(path=problem.path[:_PATH], message=problem.message[:_MESSAGE])
                found.setdefault((short.path, short.message), short)
                if len(found) == _MOST:
                    break
    except RecursionError:
        return [FieldProblem(path="payload", message="is nested too deeply")]
    except Unresolvable:
        return []  # of a schema that was stored before references were checked: the run holds it
    return sorted(found.values(), key=lambda problem: problem.path)


def _problems(errors: Iterable[ValidationError]) -> Iterable[FieldProblem]:
    for error in errors:
        where = _path(error.absolute_path)
        kind, value, rule = error.validator, cast(Any, error.instance), cast(Any, error.validator_value)
        here = where or "payload"
        beside = cast(dict[str, Any], error.schema) if isinstance(error.schema, dict) else {}
        if kind != readings.READS and readings.is_whole(beside.get(readings.READS)):
            continue  # the rule says it, and what is right besides
        if kind == readings.READS:
            yield FieldProblem(path=here, message=f"{error.message}, got {_show(value)}")
        elif kind == "pattern" and "format" in beside:
            yield FieldProblem(path=here, message=f"{_show(value)} is not a {beside['format']}")
        elif kind == "not":
            yield FieldProblem(path=here, message=f"{_show(value)} is not accepted")
        elif kind == "required":
            # the library gives one error for each missing name, and only its sentence says which
            for name in rule:
                if name not in value and error.message.startswith(f"{name!r} "):
                    yield FieldProblem(path=_join(where, name), message="missing")
        elif kind == "additionalProperties" and isinstance(value, dict):
            known = list(cast(dict[str, Any], error.schema).get("properties", {}))
            for name in value:
                if name not in known:
                    yield FieldProblem(path=_join(where, name), message=_unknown(name, known))
        elif kind == "type":
            yield FieldProblem(path=here, message=_not(value, [rule] if isinstance(rule, str) else rule))
        elif kind in ("anyOf", "oneOf") and error.context:
            yield from _either(error, where)
        elif kind == "enum":
            choices = ", ".join(_show(choice) for choice in rule[:20]) + (" …" if len(rule) > 20 else "")
            yield FieldProblem(path=here, message=f"{_show(value)} is none of {choices}")
        elif kind == "format":
            yield FieldProblem(path=here, message=f"{_show(value)} is not a {rule}")
        else:
            yield FieldProblem(path=here, message=error.message[:300])


def _either(error: ValidationError, where: str) -> Iterable[FieldProblem]:
    """No branch of a union fits: say all types where that is what is wrong, else what the nearest branch says."""
    branches: dict[Any, list[ValidationError]] = {}
    for inner in error.context:
        branches.setdefault(inner.schema_path[0], []).append(inner)
    here = len(error.absolute_path)
    nearest: list[list[ValidationError]] = [
        errors
        for errors in branches.values()
        if not any(e.validator == "type" and len(e.absolute_path) == here for e in errors)
    ]
    if nearest:
        yield from _problems(sorted(nearest, key=len)[0])
        return
    wanted: list[str] = []
    for errors in branches.values():
        for inner in errors:
            if inner.validator == "type":
                kinds = cast(Any, inner.validator_value)
                wanted += [kinds] if isinstance(kinds, str) else kinds
    yield FieldProblem(path=where or "payload", message=_not(error.instance, list(dict.fromkeys(wanted))))


def _not(value: Any, kinds: list[str]) -> str:
    return f"{_show(value)} is not {' or '.join(_KINDS.get(kind, kind) for kind in kinds)}"


def _unknown(name: str, known: list[str]) -> str:
    close = near(name, known)
    if close:
        return f"unknown; did you mean {close[0]!r}?"
    return f"unknown; known are {', '.join(sorted(known)[:50])}" if known else "unknown: none are taken"


def _show(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _path(parts: Iterable[str | int]) -> str:
    path = ""
    for part in parts:
        path = f"{path}[{part}]" if isinstance(part, int) else _join(path, part)
    return path


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
