"""Whose turn it is: one step of one container after the other, however much one of them has to do."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable

#: Seconds of steps between two looks at what has become ready.
_SLICE = 0.0002
#: From the end of a step that was taken at once to the next: others that are ready are seen in between.
_ALONE = 0.00002
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
        #: Until when who becomes ready may have become so along with who had its step at once.
        self._until_alone = 0.0
        #: Steps whose turn it is not yet.
        self.waiting = 0

    def add(self, owner: str, step: Step) -> None:
        self._steps.setdefault(owner, deque()).append(step)
        self.waiting += 1
        self._plan()

    def ready(self, owner: str, step: Step) -> bool:
        """As `add`, of who has just become ready: at once where nobody waits and nobody just was.

        Whoever became ready along with it finds that it has been at it, and waits for its turn, as do others then.
        True: it is still to come, or there is more to do.
        """
        if not self._steps and self._clock() >= self._until_alone:
            again = step()
            self._until_alone = self._clock() + _ALONE
            if not again:
                return False
        self.add(owner, step)
        return True

    @property
    def alone(self) -> bool:
        """Of a step: whether nobody but its owner waits."""
        return len(self._steps) <= 1

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
