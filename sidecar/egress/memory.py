"""The bytes that are read and not yet passed on, because whoever they are for does not take them."""

from __future__ import annotations

_LEAST = 4 * 1024
_MOST = 1024 * 1024


class Memory:
    """A limit on them, of one container or (without `whole`) of all.

    It is held by reading less at a time: near the limit a connection is read in small pieces, of which it has one
    each way. So `limit` is passed by `connections × 2 × 4 KiB` at the most.
    """

    def __init__(self, limit: int, whole: Memory | None = None) -> None:
        self.limit = limit
        self.used = 0
        self._whole = whole

    def size(self) -> int:
        """How many bytes may be read at once."""
        left = self._left() // 2
        if self._whole is not None:
            left = min(left, self._whole._left() // 8)
        return max(_LEAST, min(_MOST, left))

    def take(self, size: int) -> None:
        self.used += size
        if self._whole is not None:
            self._whole.used += size

    def give(self, size: int) -> None:
        self.take(-size)

    def _left(self) -> int:
        return self.limit - self.used
