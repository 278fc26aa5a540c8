"""`where` filters: what of an event's payload has to be so, by dotted path.

    {"status": "paid", "customer.country": {"in": ["DE", "AT"]}, "amount": {"gt": 100, "lte": 5000}}

All conditions have to hold. A plain value means equal; an object is one or more operators. Values are compared as
JSON: `1` equals `1.0`, `true` equals no number, and what is of another kind is neither larger nor smaller. A place
that is not there equals nothing, so of the operators only `ne` and `{"exists": false}` hold for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from coordinator.wire import FieldProblem

OPERATORS = ("gt", "gte", "lt", "lte", "ne", "in", "exists")
MAX_CONDITIONS = 50
MAX_PATH = 512
_SHOWN = 60

_MISSING = object()


def problems(where: Any, path: str = "where") -> list[FieldProblem]:
    """Everything that is wrong with a filter, each with its place below `path`."""
    return [FieldProblem(path=place, message=message) for place, message in _problems(where, path)]


def matches(where: Mapping[str, Any] | None, payload: Any) -> bool:
    """Whether `payload` (a JSON value) fits a filter that has no problems. No filter fits everything."""
    return all(_holds(condition, _find(payload, path)) for path, condition in (where or {}).items())


def _problems(where: Any, path: str) -> Iterator[tuple[str, str]]:
    if not isinstance(where, Mapping):
        yield path, f'{_show(where)} is no filter: give paths and values, such as {{"status": "paid"}}'
        return
    if len(where) > MAX_CONDITIONS:
        yield path, f"{len(where)} conditions are too many: {MAX_CONDITIONS} at most"
        return
    for name, condition in where.items():
        if not isinstance(name, str) or len(name) > MAX_PATH or not all(name.split(".")):
            yield path, f'{_show(name)} is no path: give names joined by dots, such as "customer.country"'
            continue
        place = f"{path}.{name}"
        if not isinstance(condition, Mapping):
            continue
        if not condition:
            yield place, f"no operator: give a value, or one of {', '.join(OPERATORS)}"
        for operator, operand in condition.items():
            problem = _operand_problem(operator, operand)
            if problem:
                yield place, problem


def _operand_problem(operator: Any, operand: Any) -> str | None:
    if operator not in OPERATORS:
        return (
            f"{_show(operator)} is no operator: give one of {', '.join(OPERATORS)}; "
            'to compare what is inside an object, name its path, such as "customer.country"'
        )
    if operator == "exists" and not isinstance(operand, bool):
        return f"exists takes true or false, not {_show(operand)}"
    if operator == "in" and not isinstance(operand, list):
        return f"in takes a list of values, not {_show(operand)}"
    if operator in ("gt", "gte", "lt", "lte") and _kind(operand) not in ("number", "text"):
        return f"{operator} takes a number or a text, not {_show(operand)}"
    return None


def _find(payload: Any, path: str) -> Any:
    found = payload
    for name in path.split("."):
        if isinstance(found, Mapping) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isascii() and name.isdecimal() and int(name[:9]) < len(found):
            found = found[int(name[:9])]
        else:
            return _MISSING
    return found


def _holds(condition: Any, found: Any) -> bool:
    if not isinstance(condition, Mapping):
        return _equal(condition, found)
    return all(_compare(operator, operand, found) for operator, operand in condition.items())


def _compare(operator: str, operand: Any, found: Any) -> bool:
    if operator == "exists":
        return (found is not _MISSING) is operand
    if operator == "ne":
        return not _equal(operand, found)
    if operator == "in":
        return any(_equal(item, found) for item in operand)
    if _kind(operand) != _kind(found):
        return False
    if operator == "gt":
        return bool(found > operand)
    if operator == "gte":
        return bool(found >= operand)
    if operator == "lt":
        return bool(found < operand)
    return bool(found <= operand)


def _equal(one: Any, other: Any) -> bool:
    kind = _kind(one)
    if kind != _kind(other):
        return False
    if kind == "list":
        return len(one) == len(other) and all(map(_equal, one, other))
    if kind == "object":
        return one.keys() == other.keys() and all(_equal(value, other[name]) for name, value in one.items())
    return bool(one == other)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, list):
        return "list"
    if isinstance(value, Mapping):
        return "object"
    return "null" if value is None else "missing"


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
