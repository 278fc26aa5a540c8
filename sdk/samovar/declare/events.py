"""`Event`: which events make a run of a task. Checked here; deploying checks it again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from samovar.errors import OptionError

OPERATORS = ("gt", "gte", "lt", "lte", "ne", "in", "exists")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,255}")
_MOST_CONDITIONS = 50


class Event:
    """Events of a name whose payload fits: `Event("order.paid", where={"amount": {"gt": 9}})`.

    `where`: by dotted path, a value (equal) or operators: `gt`, `gte`, `lt`, `lte`, `ne`, `in`, `exists`; all have
    to hold. Raises OptionError naming the path and what would do.
    """

    __slots__ = ("name", "where")

    def __init__(self, name: str, where: Mapping[str, Any] | None = None) -> None:
        self.name = check_name(name, "Event(name")
        self.where = None if where is None else check_where(where, "Event(where")

    def __repr__(self) -> str:
        return f"Event({self.name!r})" if self.where is None else f"Event({self.name!r}, where={self.where!r})"

    def describe(self) -> dict[str, Any]:
        """The event as it stands in the index."""
        return {"name": self.name, "where": self.where}


def check_name(name: object, place: str) -> str:
    """`name`, if an event can have it. Raises OptionError; `place` is such as "Event(name"."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise OptionError(
        f"{place}={name!r}): give 1 to 256 letters, digits, '_', '.', ':', '/' and '-', such as \"order.created\""
    )


def check_where(where: object, place: str) -> dict[str, Any]:
    """The filter as JSON. Raises OptionError; `place` is such as "Event(where"."""
    from samovar.payloads.codec import plain

    if not isinstance(where, Mapping):
        raise OptionError(f'{place}={where!r:.80}): give paths and values, such as {{"status": "paid"}}')
    if len(where) > _MOST_CONDITIONS:
        raise OptionError(f"{place}=...): {len(where)} conditions are too many: {_MOST_CONDITIONS} at most")
    for path, condition in where.items():
        if not isinstance(path, str) or len(path) > 512 or not all(path.split(".")):
            raise OptionError(
                f'{place}=...): {path!r:.80} is no path: give names joined by dots, such as "customer.country"'
            )
        if isinstance(condition, Mapping):
            _check_operators(condition, f"{place}={{{path!r}: ...}})")
    found: dict[str, Any] = plain(dict(where), "where")
    return found


def _check_operators(condition: Mapping[Any, Any], place: str) -> None:
    if not condition:
        raise OptionError(f"{place}: no operator; give a value, or one of {', '.join(OPERATORS)}")
    for operator, operand in condition.items():
        if operator not in OPERATORS:
            raise OptionError(
                f"{place}: {operator!r:.80} is no operator; give one of {', '.join(OPERATORS)}. To compare what is "
                'inside an object, name its path, such as "customer.country"'
            )
        if operator == "exists" and not isinstance(operand, bool):
            raise OptionError(f"{place}: exists takes True or False, not {operand!r:.80}")
        if operator == "in" and not isinstance(operand, (list, tuple, set, frozenset)):
            raise OptionError(f"{place}: in takes a list of values, not {operand!r:.80}")
        if operator in ("gt", "gte", "lt", "lte") and not _is_ordered(operand):
            raise OptionError(f"{place}: {operator} takes a number or a text, not {operand!r:.80}")


def _is_ordered(operand: object) -> bool:
    # Decimal is text in JSON, and would be compared as such
    return isinstance(operand, (int, float, str, date)) and not isinstance(operand, bool)
