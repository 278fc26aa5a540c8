"""A container's output, line by line."""

from __future__ import annotations

from collections.abc import Callable

Log = Callable[[str], None]

#: The longest line taken from a container as one; the rest is cut.
_LONGEST_LINE = 16 * 1024 * 1024
#: What a line, or a piece of one, counts as beside its bytes: a hundred million empty ones are work too.
_A_LINE = 32


class Lines:
    """Bytes in, lines out; a line past the cap is cut, not gathered."""

    def __init__(self, sink: Log) -> None:
        self._sink = sink
        self._held = bytearray()
        #: Bytes that were fed, and some for each line and each piece.
        self.fed = 0

    def feed(self, data: bytes) -> None:
        first, *others = data.replace(b"\r\n", b"\n").split(b"\n")
        self.fed += len(data) + _A_LINE * (1 + len(others))
        self._hold(first)
        for part in others:
            self._emit()
            self._hold(part)

    def end(self) -> None:
        if self._held:
            self._emit()

    def _hold(self, part: bytes) -> None:
        self._held += part[: max(0, _LONGEST_LINE - len(self._held))]

    def _emit(self) -> None:
        self._sink(self._held.decode("utf-8", "replace"))
        self._held.clear()
