"""How a run stops when it has nothing to do but wait: `Suspend`, and when an event loop has come to that point.

A `def` task stops at the first pending wait: `Suspend` goes up through its code. In an `async def` task other
branches may have work left, so a pending wait only stands still; when every branch stands still, all of them get
their `Suspend`. A branch that goes on for long keeps the container, and pending waits then ask now and then whether
they are over.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from samovar.errors import Suspend

if TYPE_CHECKING:
    import asyncio

#: Seconds between looks at an event loop that has more to do, the first and the longest.
_FIRST_LOOK = 0.002
_LONGEST_LOOK = 0.1
#: Seconds after which a wait that stands still asks again whether it is over.
ASK_AGAIN = 5.0


class Suspension:
    """What a run is suspended over. Threads may share it."""

    def __init__(self) -> None:
        self._keys: dict[str, None] = {}
        self._main_stopped = False
        self._loops: dict[int, _Loop] = {}

    @property
    def keys(self) -> list[str]:
        """The keys of the waits that the run has stopped at; empty while it goes on."""
        return list(self._keys)

    def check(self) -> None:
        """Raises Suspend in the main thread once it was suspended: its code has caught what it should let through.

        Another thread may belong to a pool, and come with the next piece of work.
        """
        if self._main_stopped and threading.current_thread() is threading.main_thread():
            raise Suspend(self.keys)

    def stop(self, *keys: str) -> Suspend:
        """Suspends this thread over waits; what it is to raise."""
        self._keys.update(dict.fromkeys(keys))
        self._main_stopped = self._main_stopped or threading.current_thread() is threading.main_thread()
        return Suspend(keys)

    async def stand(self, key: str) -> None:
        """Stands still at a pending wait; returns when it is time to ask for it again. Raises Suspend."""
        import asyncio

        running = asyncio.get_running_loop()
        loop = self._loops.get(id(running))
        if loop is None or loop.loop is not running:
            loop = self._loops[id(running)] = _Loop(self, running)
        await loop.stand(key)


class _Loop:
    """The pending waits of one event loop."""

    def __init__(self, suspension: Suspension, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._suspension = suspension
        self._standing: dict[Any, str] = {}
        self._look: Any = None
        self._pause = _FIRST_LOOK
        self._ask_at = 0.0

    async def stand(self, key: str) -> None:
        future = self.loop.create_future()
        self._standing[future] = key
        self._ask_at = self.loop.time() + ASK_AGAIN
        self._pause = _FIRST_LOOK
        if self._look is None:
            self._look = self.loop.call_later(self._pause, self._check)
        try:
            await future
        finally:
            self._standing.pop(future, None)

    def _check(self) -> None:
        self._look = None
        standing = {future: key for future, key in self._standing.items() if not future.done()}
        if not standing:
            return
        if _stands_still(self.loop, standing):
            # each branch gets one of its own: an exception keeps the traceback of where it went
            self._suspension.stop(*standing.values())
            for future, key in standing.items():
                future.set_exception(Suspend([key]))
            return
        if self.loop.time() >= self._ask_at:
            for future in standing:
                future.set_result(None)
            return
        self._pause = min(self._pause * 2, _LONGEST_LOOK)
        self._look = self.loop.call_later(self._pause, self._check)


def _stands_still(loop: asyncio.AbstractEventLoop, standing: dict[Any, str]) -> bool:
    """Whether nothing in the loop would go on by itself: all tasks stand, or nothing is there to wake any."""
    import asyncio

    tasks = asyncio.all_tasks(loop)
    return (all(_stands(task, standing) for task in tasks) and not _has_timeout(loop)) or _is_idle(loop)


def _stands(task: Any, standing: dict[Any, str]) -> bool:
    """Whether a task waits for a standing wait, or for other tasks (which are looked at for themselves)."""
    import asyncio

    waiter = getattr(task, "_fut_waiter", None)
    if waiter is None or waiter.done():
        return False
    children = getattr(waiter, "_children", None)  # of a gather
    return waiter in standing or isinstance(waiter, asyncio.Task) or bool(children)


def _has_timeout(loop: Any) -> bool:
    """Whether an `asyncio.timeout` runs: it would be lost with the process, so it keeps the container."""
    for timer in getattr(loop, "_scheduled", ()):
        owner = getattr(getattr(timer, "_callback", None), "__self__", None)
        if not timer.cancelled() and type(owner).__module__ == "asyncio.timeouts":
            return True
    return False


def _is_idle(loop: Any) -> bool:
    """Whether no callback, timer, open connection or thread is left that could set anything going.

    That takes a look into asyncio's own loop; of another kind of loop nothing is known, and it is not idle.
    """
    try:
        timers = [timer for timer in loop._scheduled if not timer.cancelled()]
        busy = bool(loop._ready) or bool(timers) or len(loop._selector.get_map()) > 1
        threads = loop._default_executor
        working = threads is not None and (
            not threads._work_queue.empty() or threads._idle_semaphore._value < len(threads._threads)
        )
    except AttributeError:
        return False
    return not busy and not working
