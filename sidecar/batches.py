"""What attempts say to the coordinator in the same instant travels together.

Whatever is asked while two batches are on their way goes into the next one; where none is, it goes at once: an
idle host adds no wait, and a busy one makes batches by itself. Where several projects share the host, each has a
batch of its own on its way: none waits for what another one says to be answered. Turns go round the projects, and
within each round its attempts. Of one attempt at most one batch is on its way, so that what it says arrives in its
order; its `start` holds back the rest until it is answered, or takes along what waits behind it already.

A `start` by itself is patient. Nobody waits for its answer but what the attempt says next, so it goes with that, or
with whatever else goes; the end of a short run travels with its start, and is committed together with it.
"""

from __future__ import annotations

import asyncio
import functools
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import NamedTuple

#: Batches on their way. With one alone the coordinator would wait for us between two.
_AT_ONCE = 2
#: The same where several projects share the host: one of each, as far as there are no more.
_AT_ONCE_SHARED = 8
#: As the coordinator's: of a batch, and of an item's body, with its head.
_MOST_ITEMS = 64
_MOST_BYTES = 512 * 1024
_HEAD = 1024
#: Seconds that a start waits for company. Who watches a run sees so much later that it has begun.
_PATIENCE = 0.025
#: Items of a batch where several projects share the host: so long one waits for the others.
_MOST_SHARED = 24


class Answer(NamedTuple):
    status: int
    content: bytes


class Item:
    """One request on its way. Its future is given the answer; None: it is to be sent as a call of its own."""

    __slots__ = ("action", "asked", "attempt", "body", "future", "patient", "project", "secret")

    def __init__(self, project: str, attempt: str, action: str, secret: str, body: bytes) -> None:
        self.project, self.attempt, self.action, self.secret, self.body = project, attempt, action, secret, body
        self.asked = monotonic()
        self.patient = action == "start"
        self.future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()

    def answer(self, answer: Answer | None) -> None:
        if not self.future.done():
            self.future.set_result(answer)


#: Carries a batch, and answers its items one by one; never raises. Those it leaves are sent as calls of their own.
Carry = Callable[[list[Item]], Awaitable[None]]


class Batches:
    """Used from the event loop's thread only."""

    def __init__(
        self, carry: Carry, projects: Callable[[], int] = lambda: 1, *, patience: float = _PATIENCE
    ) -> None:
        """`projects`: how many share the host at the moment. `patience`: seconds that a start waits for company."""
        self._carry = carry
        self._patience = patience
        self._projects = projects
        #: What waits, by project and attempt; whose turn is next comes first.
        self._waiting: OrderedDict[str, OrderedDict[str, deque[Item]]] = OrderedDict()
        #: How many items of an attempt are on their way.
        self._under_way: dict[str, int] = {}
        #: Attempts whose start is not answered yet.
        self._starting: dict[str, asyncio.Event] = {}
        #: Batches on their way; and the projects whose own one is.
        self._flying: set[asyncio.Task[None]] = set()
        self._gone: set[str] = set()
        self._soon = False

    def close(self) -> None:
        for task in self._flying:
            task.cancel()

    async def ask(self, item: Item) -> Answer | None:
        """The answer; None: it is to be sent as a call of its own."""
        of_project = self._waiting.setdefault(item.project, OrderedDict())
        of_project.setdefault(item.attempt, deque()).append(item)
        if item.patient:
            asyncio.get_running_loop().call_later(self._patience, self._hurry, item)
        else:
            self._send_soon()
        return await item.future

    def _send_soon(self) -> None:
        """What is asked in the same step of the loop goes along."""
        if not self._soon and len(self._flying) < self._at_once():
            self._soon = True
            asyncio.get_running_loop().call_soon(self._send)

    def _hurry(self, item: Item) -> None:
        if item.patient and not item.future.done():
            item.patient = False
            self._send_soon()

    def starts(self, attempt: str) -> Callable[[], None]:
        """Notes that the attempt's start is on its way; to be called when it is answered, whatever the answer."""
        event = self._starting[attempt] = asyncio.Event()

        def started() -> None:
            event.set()
            if self._starting.get(attempt) is event:
                del self._starting[attempt]
                self._send()

        return started

    async def begun(self, attempt: str) -> None:
        """Returns when no start of the attempt is on its way: a run ends after it has begun."""
        for attempts in self._waiting.values():
            if attempt in attempts:
                self._hurry(attempts[attempt][0])
        while (event := self._starting.get(attempt)) is not None:
            await event.wait()

    def _at_once(self) -> int:
        return _AT_ONCE if self._projects() <= 1 else _AT_ONCE_SHARED

    def _send(self) -> None:
        self._soon = False
        while len(self._flying) < self._at_once() and self._pressing() and (batch := self._take()):
            task = asyncio.get_running_loop().create_task(self._fly(batch))
            self._flying.add(task)
            projects = {item.project for item in batch}
            self._gone |= projects
            task.add_done_callback(functools.partial(self._landed, projects))

    def _pressing(self) -> bool:
        """Whether there is more in line than starts that wait for company."""
        return any(
            len(items) > 1 or not items[0].patient
            for attempts in self._waiting.values()
            for items in attempts.values()
        )

    def _landed(self, projects: set[str], task: asyncio.Task[None]) -> None:
        self._flying.discard(task)
        self._gone -= projects
        self._send()

    async def _fly(self, batch: list[Item]) -> None:
        try:
            await self._carry(batch)
        finally:
            for item in batch:
                item.answer(None)

    def _answered(self, attempt: str) -> None:
        left = self._under_way.pop(attempt) - 1
        if left:
            self._under_way[attempt] = left
        else:
            self._send()

    def _take(self) -> list[Item]:
        """The next batch: one item of each attempt in turn, as long as there is room."""
        batch: list[Item] = []
        size = 0
        shared = self._projects() > 1
        most = _MOST_SHARED if shared else _MOST_ITEMS
        taken: set[str] = set()
        passed = set(self._gone) if shared else set()
        while len(batch) < most and (found := self._next(taken, passed)) is not None:
            project, attempt = found
            items = self._waiting[project][attempt]
            if size + len(items[0].body) + _HEAD > _MOST_BYTES:
                break
            item = items.popleft()
            self._turn(project, attempt)
            if item.future.done():
                continue  # given up
            if shared and not batch:
                passed |= self._waiting.keys() - {project}
            batch.append(item)
            taken.add(attempt)
            size += len(item.body) + _HEAD
        for item in batch:
            self._under_way[item.attempt] = self._under_way.get(item.attempt, 0) + 1
            item.future.add_done_callback(functools.partial(_call_with, self._answered, item.attempt))
        return batch

    def _next(self, taken: set[str], passed: set[str]) -> tuple[str, str] | None:
        """The project and attempt whose turn it is; those with something on its way are passed over."""
        for project, attempts in self._waiting.items():
            if project in passed:
                continue
            for attempt, items in attempts.items():
                if attempt in taken:
                    return project, attempt
                held = attempt in self._starting and items[0].action != "start"
                if not held and attempt not in self._under_way:
                    return project, attempt
            passed.add(project)
        return None

    def _turn(self, project: str, attempt: str) -> None:
        """To the end of the round, or out of it where nothing is left."""
        attempts = self._waiting[project]
        if attempts[attempt]:
            attempts.move_to_end(attempt)
        else:
            del attempts[attempt]
        if attempts:
            self._waiting.move_to_end(project)
        else:
            del self._waiting[project]


def _call_with(function: Callable[[str], None], attempt: str, future: object) -> None:
    function(attempt)
