"""Why a run had a container started for it: what the pool remembers of those that there were.

Pure, as the warm set: what happened comes in, a cause comes out.
"""

from __future__ import annotations

from cachetools import LRUCache

from coordinator.wire import Cause, Leaving, Whose
from runner.spec import ContainerKey

#: Of keys and tasks that are remembered.
_MOST = 10_000

_OF: dict[Leaving, Cause] = {
    "evicted": "evicted",
    "runs": "limit",
    "age": "limit",
    "unclean": "unclean",
    "grew": "leak",
    "died": "died",
    "ended": "died",
    "failed": "failed",
    "expired": "expired",
    "superseded": "version",
}


class Causes:
    """What the last container of each key left for, and which key each task had last."""

    def __init__(self) -> None:
        self._left: LRUCache[str, tuple[Cause, Whose | None]] = LRUCache(maxsize=_MOST)
        self._keys: LRUCache[tuple[str, str], str] = LRUCache(maxsize=_MOST)

    def left(self, key: ContainerKey, why: Leaving, by: Whose | None) -> None:
        """A container of `key` has left. One that was for one run, or nobody's, or left with all, says nothing."""
        if (cause := _OF.get(why)) is not None:
            self._left[key.digest] = (cause, by)

    def of(self, key: ContainerKey, task: str, *, others: bool) -> tuple[Cause, Whose | None]:
        """Of a start for `task` that is about to begin. `others`: containers of the key are there, all busy."""
        known = self._keys.get((key.project, task))
        self._keys[key.project, task] = key.digest
        if others:
            return "parallel", None
        if key.digest in self._left:
            return self._left[key.digest]
        return ("first" if known in (None, key.digest) else "version"), None
