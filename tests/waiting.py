"""Waiting in tests: a condition polled under a deadline, never a sleep for luck."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE = 60.0
_PAUSE = 0.02


def eventually(condition: Callable[[], T], what: str, deadline: float = DEADLINE) -> T:
    """The first true value of `condition()`; fails naming `what` was waited for."""
    end = time.monotonic() + deadline
    pause = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {deadline:g} s in vain for: {what}"
        pause.wait(_PAUSE)
    return value


async def eventually_async(condition: Callable[[], T | Awaitable[T]], what: str, deadline: float = DEADLINE) -> T:
    """As `eventually`, in an event loop."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert time.monotonic() < end, f"waited {deadline:g} s in vain for: {what}"
        await asyncio.sleep(_PAUSE)
