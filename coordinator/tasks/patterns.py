"""Patterns of a deployer's schema, in an engine that does not backtrack: a text costs its length times the weight.

pydantic's engine (Rust's regex) has no look-around and no back-references. What it can't say, or says otherwise
than Python, or what weighs too much, is left to the run, where the SDK applies the same pattern: the coordinator
lets such a text through, and refuses none that the run would take.
"""

from __future__ import annotations

import functools
import re
from typing import Any, cast

from pydantic_core import SchemaError, SchemaValidator, ValidationError

#: States of the automaton, roughly. A text of n characters takes at most n times so many steps.
HEAVIEST = 4000
_LONGEST = 2000
_DEEPEST = 50
#: Classes of all scripts are some hundred states each.
_WIDE = {"w": 200, "d": 40, "s": 10, "W": 200, "D": 40, "S": 10, "b": 10, "B": 10}
_REPEAT = re.compile(r"\{(\d{1,6})?(,)?(\d{1,6})?\}")
#: Escapes that both engines read alike.
_ESCAPES = frozenset(r"wdsWDSbBAntrfv\.+*?()[]{}|^$-/'\"@#%&~`!,:;= _")


def weigh(pattern: str) -> int | None:
    """About how many states the pattern has; None where the engine can't be trusted with it."""
    if len(pattern) > _LONGEST:
        return None
    totals: list[int] = [0]
    last = 0
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "(":
            if pattern.startswith("(?", at) and not pattern.startswith(("(?:", "(?P<"), at):
                return None  # look-around, flags, back-references
            if len(totals) > _DEEPEST:
                return None
            totals.append(0)
            last = 0
            if pattern.startswith("(?:", at):
                at += 2
            elif pattern.startswith("(?P<", at):
                end = pattern.find(">", at)
                if end < 0:
                    return None
                at = end
        elif char == ")":
            if len(totals) == 1:
                return None
            last = totals.pop() + 1
            totals[-1] += last
        elif char == "{":
            found = _REPEAT.match(pattern, at)
            if found is None or found[1] is None:
                return None
            times = max(int(found[1]), int(found[3] or 0), 1)
            totals[-1] += last * (times - 1)
            last *= times
            at = found.end() - 1
        elif char == "[":
            found_class = _class(pattern, at)
            if found_class is None:
                return None
            at, last = found_class
            totals[-1] += last
        elif char == "\\":
            at += 1
            if at >= len(pattern) or pattern[at] not in _ESCAPES:
                return None
            last = _WIDE.get(pattern[at], 1)
            if pattern.startswith("b{", at):
                return None
            totals[-1] += last
        elif char in "*+?":
            totals[-1] += 1
        else:
            last = 4 if char == "." else 1 if char.isascii() else 3
            totals[-1] += last
        if sum(totals) > HEAVIEST:
            return None
        at += 1
    return sum(totals) + 1 if len(totals) == 1 else None


def _class(pattern: str, at: int) -> tuple[int, int] | None:
    """Where a class ends, and its weight."""
    weight = 2
    at += 1
    if pattern.startswith("^", at):
        at, weight = at + 1, 8
    first = at
    while at < len(pattern):
        char = pattern[at]
        if char == "]" and at > first:
            return at, weight
        if char == "[" or (char in "&-~" and pattern.startswith(char * 2, at)) or (char == "]" and at == first):
            return None  # sets of sets, which Python does not have
        if char == "\\":
            at += 1
            if at >= len(pattern) or pattern[at] not in _ESCAPES or pattern[at] in "bBA":
                return None
            weight += _WIDE.get(pattern[at], 1)
        weight += 1
        at += 1
    return None


@functools.lru_cache(1024)
def _compiled(pattern: str) -> tuple[SchemaValidator, int] | None:
    weight = weigh(pattern)
    if weight is None:
        return None
    try:
        return SchemaValidator(cast(Any, {"type": "str", "pattern": pattern})), weight
    except SchemaError:
        return None


def cost(pattern: str, text: str) -> int:
    """Steps that `fits` may take; 0 where it does not look."""
    compiled = _compiled(pattern)
    return 0 if compiled is None else compiled[1] * len(text)


def fits(pattern: str, text: str) -> bool:
    """Whether the pattern is found in the text; True also where only the run can tell."""
    compiled = _compiled(pattern)
    if compiled is None:
        return True
    # Python's $ also fits before a line break at the end
    return _found(compiled[0], text) or (text.endswith("\n") and _found(compiled[0], text[:-1]))


def _found(validator: SchemaValidator, text: str) -> bool:
    try:
        validator.validate_python(text)
    except ValidationError:
        return False
    return True
