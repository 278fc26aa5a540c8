"""Whose turn it is: one step of one container after the other, however much one of them has to do."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable

#: Seconds of steps between two looks at what has become ready.
_SLICE = 0.0002
#: What the rest of a turn costs, in seconds, that is carried out after it was given.
_GIVEN = 0.0001

#: Does a little and says whether there is more to do. Never blocks, never raises.
Step = Callable[[], bool]


class Rounds:
    """Runs steps in the loop, in rounds over their owners: each has one step in a round."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._steps: OrderedDict[str, deque[Step]] = OrderedDict()
        self._planned = False
        self._until = 0.0
        #: Steps whose turn it is not yet.
        self.waiting = 0

    def add(self, owner: str, step: Step) -> None:
        self._steps.setdefault(owner, deque()).append(step)
        self.waiting += 1
        self._plan()

    async def turn(self, owner: str) -> None:
        """Returns when it is the turn of `owner`."""
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def step() -> bool:
            if not given.done():
                given.set_result(None)
                self.owe(_GIVEN)
            return False

        self.add(owner, step)
        await given

    def owe(self, seconds: float) -> None:
        """Of a step that leaves so much to be done after it: fewer are taken before the next look."""
        self._until -= seconds

    def _plan(self) -> None:
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._planned = False
        self._until = self._clock() + _SLICE
        while self._steps:
            owner, steps = next(iter(self._steps.items()))
            step = steps.popleft()
            self.waiting -= 1
            again = step()
            # to the end of the round; a step may have added others of its owner
            del self._steps[owner]
            if again:
                steps.append(step)
                self.waiting += 1
            if steps:
                self._steps[owner] = steps
            if self._clock() >= self._until:
                break
        if self._steps:
            self._plan()
