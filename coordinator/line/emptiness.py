"""Whether it is known that nothing stands in line: then a claim need not look.

Each run used to cost three claims: the one that took it, the runner's next one, and one more when the run had freed
its place. An empty line stays empty until somebody says that it has grown (`waking.CLAIMS`), so the other two are
answered from memory.
"""

from __future__ import annotations

from collections.abc import Hashable

from coordinator.signals.waking import Waking

#: Seconds that it is believed: a word of another coordinator may be lost, and polls look again by themselves then.
_BELIEVED = 0.8
#: Runners that are kept in mind.
_MOST = 1000


class Emptiness:
    """Used from the event loop's thread only. `now` is of a clock that does not jump, in seconds."""

    def __init__(self, waking: Waking) -> None:
        self._waking = waking
        #: How often the line had grown when it was found empty, and when that was asked.
        self._at: int | None = None
        self._since = 0.0
        #: What each runner asked with when it looked last: with more room it is to be heard again.
        self._asked: dict[str, Hashable] = {}

    def known(self, runner: str, asked: Hashable, now: float) -> bool:
        """Whether `runner`, with this request, would find nothing."""
        if self._at != self._waking.claims or self._asked.get(runner) != asked:
            return False
        return now - self._since < _BELIEVED

    def looking(self) -> int:
        """To be asked before a look begins, and given to `found`."""
        return self._waking.claims

    def found(self, before: int, runner: str, asked: Hashable, now: float, *, empty: bool) -> None:
        """What a look that began at `before` has found."""
        if len(self._asked) >= _MOST:
            self._asked.clear()
        self._asked[runner] = asked
        if empty:
            self._at, self._since = before, now
