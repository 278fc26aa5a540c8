"""What is different between two values: a place for each, with what is there in the one and in the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

#: Places that are named, and how deep two values are gone into: below that they differ as a whole.
MOST, _DEEP = 50, 8
_MISSING = object()


class Change(NamedTuple):
    """`path`: `items[2].price`, empty for the whole value. A side that has nothing there is None."""

    path: str
    before: str | None
    after: str | None


def changes(before: Any, after: Any) -> list[Change]:
    """In the order of the keys of the first, then of those that only the second has; MOST of them and one more."""
    found = []
    for change in _changes(before, after, "", 0):
        found.append(change)
        if len(found) > MOST:
            break
    return found


def _changes(before: Any, after: Any, path: str, depth: int) -> Iterator[Change]:
    if depth < _DEEP and isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            place = f"{path}.{key}" if path else str(key)
            yield from _changes(before.get(key, _MISSING), after.get(key, _MISSING), place, depth + 1)
    elif depth < _DEEP and isinstance(before, list) and isinstance(after, list):
        for number in range(max(len(before), len(after))):
            one = before[number] if number < len(before) else _MISSING
            other = after[number] if number < len(after) else _MISSING
            yield from _changes(one, other, f"{path}[{number}]", depth + 1)
    # 1 and true are equal in Python, and two values in JSON
    elif type(before) is not type(after) or before != after:
        yield Change(path, _text(before), _text(after))


def _text(value: Any) -> str | None:
    return None if value is _MISSING else json.dumps(value, ensure_ascii=False)
