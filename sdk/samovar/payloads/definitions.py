"""The `$defs` of one JSON Schema: a name for every class in it, never one name for two."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any


class Definitions(dict[str, Any]):
    """Schemas by name. A class is told by itself, not by what it is called."""

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[Hashable, str] = {}

    def name(self, key: Hashable, short: str, qualified: str) -> tuple[str, bool]:
        """The name that stands for `key`, and whether it is new: then its schema is the caller's to put there.

        It is `short` where that is free, else `qualified` (module and class), else that with a number.
        """
        known = self._names.get(key)
        if known is not None:
            return known, False
        name, number = _clean(short), 1
        while name in self:
            name = _clean(qualified or short) if number == 1 else f"{_clean(qualified or short)}-{number}"
            number += 1
        self._names[key] = name
        self[name] = {}  # taken, before its fields: they may refer back to it
        return name, True


def _clean(name: str) -> str:
    """A name that stands in a reference as it is: `Box[int]` is `Box_int`."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_") or "unnamed"
