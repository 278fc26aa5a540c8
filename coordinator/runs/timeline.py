"""The time of a run cut into pieces, from its rows alone: each moment from its making to its end is in one of them.

What is known is laid end to end from where the piece before ended, so whatever the rows hold, and however clocks
went, the pieces add up to the whole. What nobody has seen is `other`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

#: The kinds of pieces, in the order in which a run comes to them.
KINDS = (
    "delayed",
    "queued",
    "placed",
    "started",
    "imported",
    "handed_over",
    "ran",
    "waiting",
    "back_off",
    "reported",
    "other",
)
#: Seconds that are no piece of their own: times are read as sums of floats that were sums before.
_NOTHING = 1e-5


class Piece(NamedTuple):
    """`attempt`: the place among the attempts of the one it is of or leads to; their number where none came after.

    Times are seconds since the epoch.
    """

    kind: str
    begin: float
    end: float
    attempt: int


class Laid(NamedTuple):
    """`attempts`: where each attempt begins and ends among the pieces."""

    pieces: list[Piece]
    attempts: list[tuple[float, float]]


class _Line:
    """The pieces so far; `at` is where the last one ends."""

    def __init__(self, begin: float, end: float) -> None:
        self.at, self.end = begin, max(begin, end)
        self.pieces: list[Piece] = []

    def until(self, kind: str, to: float, attempt: int) -> None:
        """The time from here to `to` was spent so; nothing where that is past."""
        to = min(to, self.end)
        if to - self.at > _NOTHING or (to == self.end and to > self.at):
            self.pieces.append(Piece(kind, self.at, to, attempt))
            self.at = to


def lay(run: Any, attempts: Sequence[Any], now: float) -> Laid:
    """`run`: its row; `attempts`: the rows of its latest ones, by number. An open run's last piece ends now."""
    line = _Line(run.created_at, now if run.finished_at is None else run.finished_at)
    found = Laid(line.pieces, [])
    before: Any = None
    for n, attempt in enumerate(attempts):
        if attempt.queued_ms is None:
            line.until("other", attempt.claimed_at, n)
        else:
            line.until(_gap(before, attempt), attempt.claimed_at - attempt.queued_ms / 1000, n)
            line.until("queued", attempt.claimed_at, n)
        began = line.at
        _within(line, attempt, n)
        found.attempts.append((began, line.at))
        before = attempt
    _since(line, run, before, len(attempts))
    return found


def ledger(pieces: list[Piece]) -> dict[str, float]:
    """Milliseconds by KINDS; together they are the whole time."""
    spent = dict.fromkeys(KINDS, 0.0)
    for piece in pieces:
        spent[piece.kind] += 1000 * (piece.end - piece.begin)
    return spent


def _gap(before: Any, attempt: Any) -> str:
    """What a run did before it stood in line for an attempt."""
    if before is None:
        return "delayed" if attempt.number == 1 else "other"
    return "waiting" if before.status == "suspended" else "back_off"


def _within(line: _Line, attempt: Any, n: int) -> None:
    finished = line.end if attempt.finished_at is None else attempt.finished_at
    began = finished if attempt.started_at is None else attempt.started_at
    placing = (
        ("placed", attempt.placed_ms),
        ("started", attempt.starting_ms),
        ("imported", attempt.importing_ms),
        ("handed_over", attempt.handed_ms),
    )
    for kind, spent in placing:
        if spent is not None:
            line.until(kind, min(began, line.at + spent / 1000), n)
    line.until("other", began, n)
    if attempt.started_at is not None:
        line.until("ran", finished - (attempt.reported_ms or 0.0) / 1000, n)
        line.until("reported", finished, n)


def _since(line: _Line, run: Any, last: Any, n: int) -> None:
    """What it has done since its last attempt ended, or without any."""
    if last is None:
        line.until("delayed", run.queued_at, n)
    elif last.finished_at is not None and last.status == "suspended":
        # whoever woke it has put it in line
        woken = run.status == "queued" or (run.status != "waiting" and run.queued_at > last.finished_at)
        line.until("waiting", run.queued_at if woken else line.end, n)
    else:
        line.until("back_off", run.queued_at, n)
    line.until("queued", line.end, n)
