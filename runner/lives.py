"""What the coordinator has still to be told of the pool: containers that have left, and how runs have begun.

Both are said with every heartbeat until one was answered, in a form that may be said twice: a container that has
left has its name, and how runs began in a few minutes is told as the whole of those minutes. Both are bounded,
whatever the coordinator does.
"""

from __future__ import annotations

import uuid
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable

import structlog

from coordinator.wire import Cause, Leaving, Life, Sample, Start, StartCount, StartSlot, Whose
from coordinator.wire.pool import START_SLOT
from runner.container import Container

log = structlog.get_logger()

#: Containers that have left and are not told yet; and how many of them one heartbeat tells.
_MOST_LEFT, _MOST_TOLD = 2000, 200
#: Slots that are not told yet: a day and a little.
_MOST_SLOTS = 300
#: Of one slot: projects with the ways in which their runs have begun.
_MOST_COUNTS = 5000

_Kind = tuple[str, Start, Cause | None]


class Lives:
    """The containers that have left."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, Life]] = OrderedDict()

    def left(self, container: Container, why: Leaving, by: Whose | None) -> None:
        now = self._clock()
        key = container.key
        self._left[container.name] = (
            now,
            Life(
                container=container.name,
                project=key.project,
                image=key.image,
                memory=key.memory,
                why=why,
                by=by,
                lived=max(0.0, now - container.since),
                ago=0.0,
                runs=container.runs,
                task=container.task or None,
                worth=container.worth,
                memory_runs=[Sample(peak=peak, after=after) for peak, after in container.samples],
            ),
        )
        if len(self._left) > _MOST_LEFT:
            name, _ = self._left.popitem(last=False)
            log.warning("nobody hears of a container that has left: too many are untold", container=name)

    def untold(self) -> list[Life]:
        """The oldest of those that nobody has confirmed."""
        now = self._clock()
        first = [item for _, item in zip(range(_MOST_TOLD), self._left.values(), strict=False)]
        return [life.model_copy(update={"ago": max(0.0, now - at)}) for at, life in first]

    def told(self, lives: Iterable[Life]) -> None:
        for life in lives:
            self._left.pop(life.container, None)


class Tally:
    """How runs have begun, by slots of some minutes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._boot = uuid.uuid4().hex[:12]
        #: By their number: those that go on, or have something to tell; and which of them have.
        self._slots: OrderedDict[int, Counter[_Kind]] = OrderedDict()
        self._changed: set[int] = set()

    def began(self, project: str, start: Start, cause: Cause | None) -> None:
        number = self._number
        if number not in self._slots:
            self._slots[number] = Counter()
            if len(self._slots) > _MOST_SLOTS:
                self._changed.discard(self._slots.popitem(last=False)[0])
        counts, kind = self._slots[number], (project, start, cause)
        if kind in counts or len(counts) < _MOST_COUNTS:
            counts[kind] += 1
            self._changed.add(number)

    def untold(self) -> list[StartSlot]:
        return [
            StartSlot(
                slot=f"{self._boot}-{number}",
                ago=max(0.0, self._clock() - number * START_SLOT),
                counts=[
                    StartCount(project=project, start=start, cause=cause, count=count)
                    for (project, start, cause), count in counts.items()
                ],
            )
            for number, counts in self._slots.items()
            if number in self._changed
        ]

    def told(self, slots: Iterable[StartSlot]) -> None:
        """What was said is told, where it has not changed since; and forgotten, where it is over."""
        for slot in slots:
            number = int(slot.slot.rpartition("-")[2])
            if number in self._changed and self._slots[number].total() == sum(c.count for c in slot.counts):
                self._changed.discard(number)
        for number in [n for n in self._slots if n < self._number and n not in self._changed]:
            del self._slots[number]

    @property
    def _number(self) -> int:
        return int(self._clock() // START_SLOT)
