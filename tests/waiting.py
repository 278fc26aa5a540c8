"""Waiting in tests: a condition polled under a deadline, never a sleep for luck."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE = 60.0
#: Seconds between two looks: the least, and the most.
_PAUSE, _LONGEST = 0.02, 0.5
#: A look that itself takes long, as a command does, is not had at the cost of what is waited for.
_SHARE = 4


def _pause(began: float) -> float:
    """How long to wait after a look that began then."""
    return min(_LONGEST, max(_PAUSE, _SHARE * (time.monotonic() - began)))


def eventually(condition: Callable[[], T], what: str, deadline: float = DEADLINE) -> T:
    """The first true value of `condition()`; fails naming `what` was waited for."""
    end = time.monotonic() + deadline
    pause = threading.Event()
    while True:
        began = time.monotonic()
        if value := condition():
            return value
        assert time.monotonic() < end, f"waited {deadline:g} s in vain for: {what}"
        pause.wait(_pause(began))


async def eventually_async(condition: Callable[[], T | Awaitable[T]], what: str, deadline: float = DEADLINE) -> T:
    """As `eventually`, in an event loop."""
    end = time.monotonic() + deadline
    while True:
        began = time.monotonic()
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert time.monotonic() < end, f"waited {deadline:g} s in vain for: {what}"
        await asyncio.sleep(_pause(began))
