"""Bodies in turns: where several projects send some, of each one only so much is carried out at a time.

What a request costs after its body was read (parsing, checking, the database, the answer) is work of one process
and one interpreter, which all projects share: so many of one project's at once would be so many turns for each of
another's. What its keys send and what its attempts say count together, and go round. And who has had all of its
room all the time rests three times as long; seven times after bodies of twice that size, which cost the other
processes of the host as much again. A project that has the coordinator to itself is not held up.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import math
from collections import OrderedDict, deque
from collections.abc import Callable
from time import monotonic

#: What may be carried out of one project's at once: so many small bodies, or one that is as large as they together.
ROOM = 4
_SMALL = 16 * 1024
#: A large body's time counts by its size, but no more than so many times.
_HEAVIEST = 2
#: Of its room all the time a project may have so much, and seconds of that at once after a quiet time.
_SHARE = 0.25
_BURST = 0.05
#: What one body counts at the most: the database may have been away.
_LONGEST = 1.0
#: Seconds after its last body for which a project counts as one that others share with.
_SHARES = 2.0
#: Projects that are remembered.
_MOST = 1000


def project_of(line: str) -> str | None:
    """Whose a line (foundation/turns.py) is: a project has several. None for lines of keys that see all of them, of
    pages and addresses: they are no project, and who has the coordinator alone with such a key shares with nobody.
    """
    kind, _, name = line.partition(":")
    return name if kind in ("project", "attempts") else None


#: Calls after so many seconds.
Later = Callable[[float, Callable[[], None]], object]


def _later(seconds: float, call: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(seconds, call)


class Turn:
    """What one body takes of its project's room, until it is given back; since when it has it.

    `weight`: of its size, in parts of the room: for how much its time counts.
    """

    __slots__ = ("cost", "granted", "project", "since", "weight")

    def __init__(self, project: str, size: int) -> None:
        self.project = project
        self.weight = min(_HEAVIEST * ROOM, 1 + size // _SMALL)
        self.cost = min(ROOM, self.weight)
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.since = 0.0


class _Project:
    def __init__(self) -> None:
        self.taken = 0
        self.resting = False
        #: Who waits, by line; the line whose turn is next comes first.
        self.waiting: OrderedDict[str, deque[Turn]] = OrderedDict()


class Bodies:
    """Used from the event loop's thread only."""

    def __init__(self, clock: Callable[[], float] = monotonic, later: Later = _later) -> None:
        self._clock = clock
        self._later = later
        self._projects: dict[str, _Project] = {}
        #: When the share of each that it has had would have been due.
        self._due: dict[str, float] = {}
        #: When each sent something last; the latest comes last.
        self._seen: OrderedDict[str, float] = OrderedDict()

    async def take(self, line: str, size: int) -> Turn | None:
        """Returns when it is the turn of this body, of `size` bytes; to be given back. None where nobody's is."""
        name = project_of(line)
        if name is None:
            return None
        self._see(name)
        project = self._projects.setdefault(name, _Project())
        turn = Turn(name, size)
        project.waiting.setdefault(line, deque()).append(turn)
        self._go_on(name, project)
        try:
            await turn.granted
        except asyncio.CancelledError:
            if turn.granted.done() and not turn.granted.cancelled():
                self.give(turn)
            raise
        return turn

    def give(self, turn: Turn) -> None:
        project = self._projects[turn.project]
        project.taken -= turn.cost
        had = min(_LONGEST, self._clock() - turn.since) * turn.weight / ROOM
        if turn.project in self._seen:
            self._due[turn.project] = max(self._due.get(turn.project, 0.0), turn.since - _BURST) + had / _SHARE
        self._go_on(turn.project, project)

    def _rested(self, name: str, project: _Project) -> None:
        project.resting = False
        self._go_on(name, project)

    def _go_on(self, name: str, project: _Project) -> None:
        while project.waiting and not project.resting:
            line, turns = next(iter(project.waiting.items()))
            turn = turns[0]
            if turn.granted.done():  # given up
                turns.popleft()
            elif project.taken and project.taken + turn.cost > ROOM and self._shared():
                break
            elif (rest := self._due.get(name, 0.0) - self._clock()) > 0 and self._shared():
                project.resting = True
                self._later(rest, functools.partial(self._rested, name, project))
                break
            else:
                turns.popleft()
                project.taken += turn.cost
                turn.since = self._clock()
                turn.granted.set_result(None)
                project.waiting.move_to_end(line)
            if not turns:
                del project.waiting[line]
        if not project.taken and not project.waiting and not project.resting:
            self._projects.pop(name, None)

    def _see(self, name: str) -> None:
        self._seen[name] = self._clock()
        self._seen.move_to_end(name)
        if len(self._seen) > _MOST:
            self._due.pop(self._seen.popitem(last=False)[0], None)

    def _shared(self) -> bool:
        """Whether somebody else has something here, or had lately."""
        if len(self._projects) > 1:
            return True
        lately = itertools.islice(reversed(self._seen.values()), 1, 2)
        return next(lately, -math.inf) > self._clock() - _SHARES
