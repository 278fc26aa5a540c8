"""Names of rows: a prefix that says what it is, and 26 letters that sort by time of making."""

from __future__ import annotations

import os
import threading
import time

_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"

_last = 0
_lock = threading.Lock()


def new(prefix: str, at: float | None = None) -> str:
    """`prefix_` + 48 bits of milliseconds and 80 random bits: neighbours in time are neighbours in the index.

    Those of one process sort as they were made, also within a millisecond and where its clock was set back. `at`:
    seconds since the epoch; None: now, by this process's clock.
    """
    global _last
    number = int((time.time() if at is None else at) * 1000) << 80 | int.from_bytes(os.urandom(10))
    with _lock:
        if number <= _last:
            number = _last + 1 + int.from_bytes(os.urandom(5))
        _last = number
    return _name(prefix, number)


def least(prefix: str, at: float) -> str:
    """What sorts before each name made at `at` (seconds since the epoch) or later."""
    return _name(prefix, max(0, int(at * 1000)) << 80)


def _name(prefix: str, number: int) -> str:
    letters = []
    for _ in range(26):
        letters.append(_LETTERS[number & 31])
        number >>= 5
    return f"{prefix}_{''.join(reversed(letters))}"


def run(now: float) -> str:
    """`now`: of the transaction that writes the run, whose `created_at` it is."""
    return new("run", now)


def attempt() -> str:
    return new("att")


def deployment() -> str:
    return new("dep")


def schedule() -> str:
    return new("sch")


def event() -> str:
    return new("evt")


def delivery() -> str:
    return new("whd")


def key() -> str:
    return new("key")


def trace() -> str:
    """32 hexadecimal digits, as W3C trace context wants them."""
    return os.urandom(16).hex()
