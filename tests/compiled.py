"""Statements that one test's database has compiled are compiled for the next one's too.

SQLAlchemy keeps what it has compiled for each engine, of which a process of ours has one. Here each test has one,
and compiling the same statements for each took a fifth of the processors' time. What is compiled says nothing of an
engine but its kind.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import Engine
from sqlalchemy.util import LRUCache


class _Shared:
    """What engines of one kind have compiled; keys begin with the dialect, an object of each engine's own."""

    def __init__(self) -> None:
        self._kept: LRUCache[Any, Any] = LRUCache(4000)

    def get(self, key: tuple[Any, ...]) -> Any:
        return self._kept.get(key[1:])

    def __setitem__(self, key: tuple[Any, ...], compiled: Any) -> None:
        self._kept[key[1:]] = compiled


def share() -> None:
    """From now on, for engines that are made in this process."""
    kinds: dict[tuple[str, str], _Shared] = {}
    real = Engine.__init__

    def init(self: Engine, pool: Any, dialect: Any, *rest: Any, **named: Any) -> None:
        real(self, pool, dialect, *rest, **named)
        kept: Any = kinds.setdefault((dialect.name, dialect.driver), _Shared())
        self._compiled_cache = kept

    Engine.__init__ = init  # type: ignore[method-assign]
