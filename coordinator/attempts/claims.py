"""Claiming: a runner takes the runs whose turn it is, as far as they fit its host and their queues' limits.

What is free is derived from the rows of live attempts, what occupies a queue from its running runs; neither is
counted beside them. Whose turn it is, is in coordinator/line/lanes.py and coordinator/line/line.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from coordinator.attempts import checkpoints, runners
from coordinator.attempts.room import Room
from coordinator.foundation import ids
from coordinator.foundation.limits import LEASE, MIN_MEMORY, STARVING
from coordinator.foundation.states import RUN, sources
from coordinator.line.line import Line
from coordinator.storage import dialect
from coordinator.storage.prepared import Prepared
from coordinator.storage.tables import IS_LIVE, IS_RUNNING, attempts, deployments, runs, tasks
from coordinator.storage.values import Stored
from coordinator.waits import waits
from coordinator.wire import ClaimRequest


@dataclass(frozen=True)
class Claimed:
    """A live attempt with all that its assignment is made of; values not yet brought in from blobs."""

    attempt: str
    token: int
    number: int
    run: Row[Any]
    image: str
    options: str
    memory: int
    extended: float
    #: Seconds that are left of the run's whole time; None for no limit.
    total_left: float | None
    payload: Stored
    checkpoints: list[tuple[str, Stored]]
    checkpoints_complete: bool
    #: Waits that are over, and the keys of those to be sent along whole.
    waits: list[Row[Any]]
    waits_sent: set[str]


# Statements of the hot path are built once: to build one takes longer than SQLite takes to run it.

_ALL_RUNNING = Prepared(select(func.count()).select_from(runs).where(IS_RUNNING))
_ADD_ATTEMPT = Prepared(insert(attempts))
_TAKE = Prepared(
    update(runs)
    .where(runs.c.id == bindparam("run"), runs.c.status.in_(sources(RUN, by="claims.claim")))
    .values(
        status="running",
        attempts=bindparam("number"),
        current_attempt=bindparam("attempt"),
        # a run that was started once is kept to its end, whatever its ttl said
        expires_at=None,
        due_at=None,
        queued_ms=bindparam("waited"),
        rated_at=bindparam("rated"),
        start=None,
        start_ms=None,
        run_ms=None,
        memory_limit=runs.c.memory,
    )
)
_TASK = Prepared(
    select(deployments.c.image, tasks.c.options)
    .join_from(tasks, deployments, tasks.c.deployment_id == deployments.c.id)
    .where(tasks.c.deployment_id == bindparam("deployment"), tasks.c.task == bindparam("task"))
)


def claim(
    conn: Connection, now: float, runner: str, request: ClaimRequest, max_running: int | None = None
) -> list[Claimed]:
    """At most `request.most` runs, each with a new attempt, its lease and its token.

    `max_running` is the limit over all queues.
    """
    shares = runners.lock(conn, now, runner, request.memory, request.slots)
    room = Room.read(conn, runner, request.memory, request.slots, shares)
    room.slots = min(room.slots, request.most)
    if room.slots <= 0 or room.memory < MIN_MEMORY:
        return []
    if max_running is not None:
        # every claim waits here for the one before it: only so is the count what it will be when it commits
        dialect.lock_claims(conn)
        room.slots = min(room.slots, max_running - int(conn.scalar(_ALL_RUNNING) or 0))
    claimed: list[Claimed] = []
    line = Line(conn, now)
    while room.slots > 0 and room.memory >= MIN_MEMORY:
        lane = line.next(room.of)
        if lane is None:
            break
        project = lane.queue.limits.project
        if lane.memory > room.of(project):
            if room.keeps_for(project, lane.memory) and line.waits_since(lane) < now - STARVING:
                break  # it has waited long for room that this host has: what comes free is kept for it
            line.pass_over(lane)
            continue
        run = line.take(lane)
        if run is not None:
            room.take(project, run.memory)
            claimed.append(_take(conn, now, runner, run, rated=lane.queue.limits.throttles))
    line.settle()
    return claimed


def live(conn: Connection, now: float, runner: str) -> list[Claimed]:
    """Every live attempt of a runner that has just started again; their leases begin anew."""
    rows = conn.execute(
        update(attempts)
        .where(attempts.c.runner == runner, IS_LIVE, attempts.c.lease_until > now)
        .values(lease_until=now + LEASE)
        .returning(attempts.c.id, attempts.c.run_id, attempts.c.token, attempts.c.number, attempts.c.memory)
        .returning(attempts.c.extended)
    ).all()
    found = []
    for row in sorted(rows, key=lambda r: r.id):
        run = conn.execute(select(runs).where(runs.c.id == row.run_id)).one()
        found.append(_claimed(conn, now, row.id, row.token, row.number, row.memory, row.extended, run))
    return found


def _take(conn: Connection, now: float, runner: str, run: Row[Any], *, rated: bool) -> Claimed:
    attempt, number = ids.attempt(), run.attempts + 1
    waited = max(0.0, now - run.queued_at) * 1000
    conn.execute(
        _ADD_ATTEMPT,
        {
            "id": attempt,
            "run_id": run.id,
            "number": number,
            "token": number,
            "runner": runner,
            "status": "claimed",
            "memory": run.memory,
            "claimed_at": now,
            "lease_until": now + LEASE,
            "extended": 0.0,
            "queued_ms": waited,
        },
    )
    rated_at = run.rated_at if run.rated_at is not None or not rated else now
    values = {"run": run.id, "number": number, "attempt": attempt, "waited": waited, "rated": rated_at}
    if conn.execute(_TAKE, values).rowcount != 1:
        raise RuntimeError(f"the run {run.id} was taken while it was locked")
    # a first attempt has nothing to go on from, unless its run is a replay that begins with what another had
    new = number == 1 and run.origin != "replay"
    return _claimed(conn, now, attempt, number, number, run.memory, 0.0, run, new=new)


def _claimed(
    conn: Connection,
    now: float,
    attempt: str,
    token: int,
    number: int,
    memory: int,
    extended: float,
    run: Row[Any],
    *,
    new: bool = False,
) -> Claimed:
    """`new`: there can be no checkpoints and no waits yet."""
    task = conn.execute(_TASK, {"deployment": run.deployment_id, "task": run.task}).one()
    earlier, complete = ([], True) if new else checkpoints.preload(conn, run.id)
    over, sent = ([], set()) if new else waits.stored(conn, run.id)
    return Claimed(
        attempt=attempt,
        token=token,
        number=number,
        run=run,
        image=task.image,
        options=task.options,
        memory=memory,
        extended=extended,
        total_left=None if run.deadline_at is None else max(0.0, run.deadline_at - now),
        payload=Stored(run.payload, run.payload_blob),
        checkpoints=earlier,
        checkpoints_complete=complete,
        waits=over,
        waits_sent=sent,
    )
