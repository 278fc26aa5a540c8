"""Near names for a hint, where looking for them costs little: the search compares each name with each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice

_MOST_NAMES = 300
_LONGEST = 64


def near(name: str, names: Iterable[str], count: int = 1) -> list[str]:
    """Up to `count` of `names` that look like `name`; none where there are too many of them, or it is long."""
    known = [known for known in islice(names, _MOST_NAMES + 1) if len(known) <= _LONGEST]
    if len(name) > _LONGEST or len(known) > _MOST_NAMES:
        return []
    return difflib.get_close_matches(name, known, n=count)
