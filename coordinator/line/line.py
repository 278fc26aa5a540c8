"""The line as one claim sees it: projects by turns, their queues that may start something, and the lanes of these.

A queue is locked when its turn comes, before anything in it is counted: its limits hold exactly, however many
claims there are. The first queue of a claim is waited for; later ones are passed over while another claim holds
them, so that two claims never wait for each other crosswise (what they pass over, the other claim is taking).
A queue without limits is only kept from being changed, and claims share it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import BigInteger, Connection, Row, bindparam, func, or_, select

from coordinator.line import lanes as waiting_lanes
from coordinator.line import queues, turns
from coordinator.line.queues import Limits
from coordinator.storage.prepared import Prepared
from coordinator.storage.tables import IS_PARKED, IS_QUEUED, IS_RUNNING, lanes, runs
from coordinator.storage.tables import queues as table

_FIRST_RANK = (
    select(func.min(lanes.c.rank))
    .where(lanes.c.project == table.c.project, lanes.c.queue == table.c.name, lanes.c.rank.is_not(None))
    .scalar_subquery()
    .label("first_rank")
)
_CANDIDATES = Prepared(select(table, _FIRST_RANK).where(table.c.paused.is_(False)))
_OCCUPIED = Prepared(
    select(runs.c.project, runs.c.queue, func.count()).where(IS_RUNNING).group_by(runs.c.project, runs.c.queue)
)
_FULL_KEYS = (
    select(runs.c.concurrency_key)
    .where(
        IS_RUNNING,
        runs.c.project == bindparam("project"),
        runs.c.queue == bindparam("queue"),
        runs.c.concurrency_key.is_not(None),
    )
    .group_by(runs.c.concurrency_key)
    .having(func.count() >= bindparam("per_key"))
)
_OPEN = (
    select(lanes.c.id, lanes.c.rank, lanes.c.memory, lanes.c.key)
    .where(
        lanes.c.project == bindparam("project"),
        lanes.c.queue == bindparam("queue"),
        lanes.c.rank.is_not(None),
        lanes.c.memory <= bindparam("fitting", type_=BigInteger),
        lanes.c.id.not_in(bindparam("touched", expanding=True)),
    )
    .order_by(lanes.c.rank, lanes.c.id)
    .limit(1)
)
_TURNS = Prepared(_OPEN)
_TURNS_OF_FREE_KEYS = Prepared(_OPEN.where(or_(lanes.c.key == "", lanes.c.key.not_in(_FULL_KEYS))))
_HEAD = (
    select(runs)
    .where(
        IS_QUEUED,
        runs.c.lane == bindparam("lane"),
        or_(runs.c.expires_at.is_(None), runs.c.expires_at > bindparam("now")),
        ~IS_PARKED,
    )
    .order_by(runs.c.order_at, runs.c.id)
    .limit(1)
)
_HEAD_TAKEN = Prepared(_HEAD.with_for_update(skip_locked=True))
_PARKED = Prepared(select(runs.c.id).where(IS_QUEUED, runs.c.lane == bindparam("lane"), IS_PARKED).limit(1))
#: Seconds until claims look again at a lane whose runs are all parked; the end of the build opens it sooner.
_PARKED_FOR = 5.0

_EVERYTHING = 2**62


@dataclass
class Lane:
    """A lane whose turn it may be; `rank` is None when it has nothing more for this claim."""

    id: str
    rank: float | None
    memory: int
    key: str
    queue: Queue
    served: int = 0


@dataclass
class Queue:
    """A queue, as far as this claim is concerned."""

    limits: Limits
    locked: bool = False
    #: How many more of its runs may start; None: as many as there are.
    room: int | None = None
    #: Only lanes that ask for no more than this are looked at.
    fitting: int = _EVERYTHING
    touched: dict[str, Lane] = field(default_factory=dict)


class Line:
    """One claim's way along the line: `next` whose turn it is, `take` or `pass_over`, in the end `settle`."""

    def __init__(self, conn: Connection, now: float) -> None:
        self._conn = conn
        self._now = now
        self._waited = False
        self._closed: dict[str, float] = {}
        self._queues: list[Queue] = []
        #: Of each project: (rank, a number that tells equal ranks apart, queue, lane or None: yet to be found)
        self._turns: dict[str, list[tuple[float, int, Queue, Lane | None]]] = {}
        self._served_at = turns.known(conn)
        self._served: dict[str, float] = {}
        candidates = [row for row in conn.execute(_CANDIDATES) if row.first_rank is not None]
        found = [(row.first_rank, queues.read(row)) for row in candidates]
        occupied: dict[tuple[str, str], int] = {}
        if any(limits.concurrency is not None for _, limits in found):
            occupied = {(row[0], row[1]): row[2] for row in conn.execute(_OCCUPIED)}
        for n, (rank, limits) in enumerate(sorted(found, key=lambda pair: pair[0])):
            # full ones are left out before any lock; whoever frees a place wakes the claims again
            if limits.concurrency is None or occupied.get((limits.project, limits.name), 0) < limits.concurrency:
                queue = Queue(limits)
                self._queues.append(queue)
                # in the order of the ranks, which is a heap already
                self._turns.setdefault(limits.project, []).append((rank, n, queue, None))
        self._number = len(found)

    def next(self, room: Callable[[str], int]) -> Lane | None:
        """The lane whose turn it is, in a queue that may start something; None where there is none.

        `room` gives the bytes that a project may take now; of one that has none, no lane comes. The lane may need
        more memory than that; then `pass_over` it, and nothing that needs more in its queue comes again.
        """
        while self._turns:
            project = min(self._turns, key=lambda name: self._served_at.get(name, 0.0))
            free = room(project)
            lane = self._next_of(self._turns[project], free) if free > 0 else None
            if lane is not None:
                return lane
            del self._turns[project]
        return None

    def _next_of(self, waiting: list[tuple[float, int, Queue, Lane | None]], free: int) -> Lane | None:
        while waiting:
            rank, _, queue, lane = heapq.heappop(waiting)
            if not queue.locked and not self._lock(queue):
                continue
            if lane is None:
                lane = self._first(queue)
                if lane is None or lane.rank is None:
                    continue
                if lane.rank > rank:
                    # another queue may come first now
                    self._push(lane.rank, queue, lane)
                    continue
            if lane.memory > free:
                queue.fitting = free
            return lane
        return None

    def waits_since(self, lane: Lane) -> float:
        """When the first run of the lane was queued."""
        head = self._conn.execute(_HEAD, {"lane": lane.id, "now": self._now}).one_or_none()
        return self._now if head is None else float(head.queued_at)

    def pass_over(self, lane: Lane) -> None:
        """Goes on to the queue's next lane that fits."""
        self._push(float("-inf"), lane.queue, None)

    def take(self, lane: Lane) -> Row[Any] | None:
        """The lane's first run, locked; None where its rate lets it not start yet, or others have taken all."""
        queue = lane.queue
        queue.touched[lane.id] = lane
        run = self._conn.execute(_HEAD_TAKEN, {"lane": lane.id, "now": self._now}).one_or_none()
        if run is None:
            lane.rank = None
            if self._conn.execute(_PARKED, {"lane": lane.id}).one_or_none() is not None:
                self._closed[lane.id] = self._now + _PARKED_FOR
        elif queue.limits.throttles and run.rated_at is None:
            opens_at = queues.rate_opens_at(self._conn, self._now, queue.limits, lane.key or None)
            if opens_at is not None:
                self._closed[lane.id] = opens_at
                lane.rank, run = None, None
        if run is not None:
            lane.served += 1
            project = queue.limits.project
            served_at = turns.after(self._now, self._served_at.get(project, 0.0))
            self._served_at[project] = self._served[project] = served_at
            if queue.room is not None:
                queue.room -= 1
        # whose turn it is in the queue now is found when it is asked for: the run's row is still to be changed
        self._push(float("-inf"), queue, None)
        return run

    def settle(self) -> None:
        """Writes down whose turn it is from now on; the last thing that a claim does."""
        served = {lane.id: lane.served for queue in self._queues for lane in queue.touched.values()}
        waiting_lanes.settle(self._conn, self._now, served, self._closed)
        turns.settle(self._conn, self._served)

    # ------------------------------------------------------------ inside

    def _lock(self, queue: Queue) -> bool:
        """Holds the queue as it is; False where it may start nothing after all, or another claim has it."""
        limits = queues.lock(
            self._conn,
            queue.limits.project,
            queue.limits.name,
            share=not queue.limits.limited,
            wait=not self._waited,
        )
        self._waited = True
        if limits is None or limits.paused or (limits.limited and not queue.limits.limited):
            # gone, paused, or limited since it was looked at: then it is not held as limits want it
            return False
        queue.limits, queue.locked = limits, True
        if limits.concurrency is not None:
            queue.room = limits.concurrency - queues.running(self._conn, limits.project, limits.name)
        return queue.room is None or queue.room > 0

    def _first(self, queue: Queue) -> Lane | None:
        """The lane of the queue whose turn it is, its key not full."""
        if queue.room is not None and queue.room <= 0:
            return None
        limits = queue.limits
        values = {
            "project": limits.project,
            "queue": limits.name,
            "fitting": queue.fitting,
            "touched": list(queue.touched),
        }
        if limits.per_key is None:
            row = self._conn.execute(_TURNS, values).one_or_none()
        else:
            row = self._conn.execute(_TURNS_OF_FREE_KEYS, {**values, "per_key": limits.per_key}).one_or_none()
        found = [] if row is None else [Lane(row.id, row.rank, row.memory, row.key, queue)]
        found += [lane for lane in queue.touched.values() if self._again(queue, lane)]
        return min(found, key=lambda lane: (lane.rank or 0.0, lane.id), default=None)

    def _again(self, queue: Queue, lane: Lane) -> bool:
        """Whether a lane that was served in this claim may be served once more; its rank is brought up to date."""
        if lane.rank is None or lane.memory > queue.fitting:
            return False
        served_at = self._now + max(0, lane.served - 1) * waiting_lanes.STEP
        lane.rank = waiting_lanes.rank(waiting_lanes.first(self._conn, lane.id), served_at)
        if lane.rank is None:
            return False
        limits = queue.limits
        if limits.per_key is None or not lane.key:
            return True
        return queues.running(self._conn, limits.project, limits.name, lane.key) < limits.per_key

    def _push(self, rank: float, queue: Queue, lane: Lane | None) -> None:
        self._number += 1
        waiting = self._turns.setdefault(queue.limits.project, [])
        heapq.heappush(waiting, (rank, self._number, queue, lane))
