"""Why a run is not running: the first thing that stands in its way, in words and in numbers."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, func, or_, select

from coordinator.attempts import runners as runners_known
from coordinator.attempts.room import Room
from coordinator.foundation.limits import MAX_POSITION, RUNNER_ALIVE
from coordinator.line import queues
from coordinator.line.queues import Limits
from coordinator.runs import plans, runs
from coordinator.runs.views import iso
from coordinator.storage.tables import IS_QUEUED, IS_RUNNING, deployments, lanes, runners
from coordinator.storage.tables import runs as table
from coordinator.storage.values import decode
from coordinator.waits import waits
from coordinator.wire import FINAL, Why, WhyReason

#: Waits of one run that are named.
_MOST_WAITS = 5


def explain(conn: Connection, now: float, run_id: str, max_running: int | None = None) -> Why:
    """Raises NotFound. `max_running` is the limit over all queues."""
    run = runs.get(conn, now, run_id)
    if run.status == "delayed":
        return _delayed(run)
    if run.status == "waiting":
        return _waiting(conn, run)
    if run.status != "queued":
        return _not_queued(run)
    found = _in_the_way(conn, now, run, max_running)
    position, others = _position(conn, run), _other_lanes(conn, run)
    if found.reason == "turn":
        turns = f", taking turns with {others} other lines of its queue" if others else ""
        place = f"{position}" if position < MAX_POSITION else f"{MAX_POSITION} or later"
        found.message = f"it waits for its turn: number {place} in line{turns}"
    found.position, found.takes_turns_with = position, others
    return found


def _answer(run: Row[Any], reason: WhyReason, message: str, **detail: Any) -> Why:
    return Why(
        run=run.id,
        status=run.status,
        reason=reason,
        message=message,
        queue=run.queue,
        concurrency_key=run.concurrency_key,
        **detail,
    )


def _delayed(run: Row[Any]) -> Why:
    until = iso(run.due_at)
    if run.attempts:
        message = f"attempt {run.attempts} failed, and the next is due at {until}"
    elif run.debounce_key is not None:
        message = (
            f"it is debounced by the key {run.debounce_key!r} until {until}, and longer if it is triggered again"
        )
    else:
        message = f"it was triggered with a delay, until {until}"
    return _answer(run, "delayed", message, until=until)


def _waiting(conn: Connection, run: Row[Any]) -> Why:
    found = waits.pending(conn, run.id)
    shown = [f"{waits.describe(row.kind, row.name)} ({row.key})" for row in found[:_MOST_WAITS]]
    more = f", and {len(found) - len(shown)} more" if len(found) > len(shown) else ""
    until = iso(found[0].due_at) if found else None
    at = f" until {until}" if until else ""
    message = f"it holds no container, and goes on after {' or '.join(shown)}{more}{at}"
    return _answer(run, "waiting", message, until=until)


def _not_queued(run: Row[Any]) -> Why:
    if run.status in FINAL:
        return _answer(run, "ended", f"it has ended: {run.status}")
    return _answer(run, "running", "it is running")


def _image(conn: Connection, now: float, run: Row[Any]) -> Why | None:
    row = conn.execute(select(deployments).where(deployments.c.id == run.deployment_id)).one()
    if row.rebuild_due_at is None:
        return None
    gone = f"the image of {row.project} {row.version} is gone from the engine"
    if row.build_lease is not None and row.build_lease > now:
        return _answer(run, "image", f"{gone}, and is built again now")
    if row.rebuild_error is None:
        return _answer(run, "image", f"{gone}, and waits for a runner that builds it again")
    until = iso(row.rebuild_due_at)
    why = decode(row.rebuild_error)["message"]
    words = f"{gone}, and could not be built again: {why}; the next try is at {until}"
    return _answer(run, "image", words, until=until)


def _in_the_way(conn: Connection, now: float, run: Row[Any], max_running: int | None) -> Why:
    if (parked := _image(conn, now, run)) is not None:
        return parked
    limits = queues.get(conn, run.project, run.queue)
    found = None if limits is None else _queue(conn, now, run, limits)
    if found is None and max_running is not None:
        occupied = int(conn.scalar(select(func.count()).select_from(table).where(IS_RUNNING)) or 0)
        if occupied >= max_running:
            found = _answer(
                run,
                "global_limit",
                f"{occupied} runs are running, of {max_running} that may at once over all queues",
                limit=max_running,
                occupied=occupied,
            )
    return found or _fleet(conn, now, run)


def _queue(conn: Connection, now: float, run: Row[Any], limits: Limits) -> Why | None:
    name, key = limits.name, run.concurrency_key
    if limits.paused:
        return _answer(run, "paused", f"its queue {name!r} is paused; samovar queues resume {name}")
    if limits.concurrency is not None:
        occupied = queues.running(conn, run.project, name)
        if occupied >= limits.concurrency:
            words = f"its queue {name!r} is full: {occupied} of {limits.concurrency} runs are running"
            return _answer(run, "queue_limit", words, limit=limits.concurrency, occupied=occupied)
    if limits.per_key is not None and key is not None:
        occupied = queues.running(conn, run.project, name, key)
        if occupied >= limits.per_key:
            words = f"{occupied} of {limits.per_key} runs with the key {key!r} are running in its queue {name!r}"
            return _answer(run, "key_limit", words, limit=limits.per_key, occupied=occupied)
    if limits.throttles and run.rated_at is None:
        opens_at = queues.rate_opens_at(conn, now, limits, key)
        if opens_at is not None:
            of = f" with the key {key!r}" if key is not None else ""
            words = f"its queue {name!r} starts {limits.rate} runs{of}: the next one at {iso(opens_at)}"
            return _answer(run, "rate", words, until=iso(opens_at), limit=limits.rate_limit)
    return None


def _fleet(conn: Connection, now: float, run: Row[Any]) -> Why:
    alive = list(conn.execute(select(runners).where(runners.c.seen_at > now - RUNNER_ALIVE)))
    if not alive:
        return _answer(
            run, "no_runner", "no runner is alive; `samovar up` starts one, `samovar doctor` looks further"
        )
    largest = plans.largest_memory(conn, now)
    if largest is not None and run.memory > largest:
        words = f"it asks for {run.memory} bytes of memory, and the most that a runner gives one task is {largest}"
        return _answer(run, "memory", words, limit=largest)
    rooms = [
        Room(conn, r.name, r.memory, r.slots, runners_known.shares(r.shares, r.memory, r.slots)) for r in alive
    ]
    free = max(room.memory if room.slots > 0 else 0 for room in rooms)
    if free < run.memory:
        words = f"no runner has {run.memory} bytes of memory and a slot free now: the most is {free}"
        held = sum(whole.memory - room.memory for whole, room in zip(alive, rooms, strict=True))
        return _answer(run, "memory", words, limit=max(r.memory for r in alive), occupied=held)
    shared = max(room.of(run.project) if room.slots > 0 else 0 for room in rooms)
    if shared < run.memory:
        words = (
            f"the runs of {run.project!r} hold its share of every host that has room, and what is left to it there "
            f"is {shared} bytes; the operator sets shares in policy.toml, [shares]"
        )
        return _answer(run, "share", words, limit=run.memory, occupied=shared)
    return _answer(run, "turn", "")


def _position(conn: Connection, run: Row[Any]) -> int:
    before = or_(table.c.order_at < run.order_at, (table.c.order_at == run.order_at) & (table.c.id < run.id))
    ahead = select(table.c.id).where(IS_QUEUED, table.c.lane == run.lane, before).limit(MAX_POSITION - 1).subquery()
    return int(conn.scalar(select(func.count()).select_from(ahead)) or 0) + 1


def _other_lanes(conn: Connection, run: Row[Any]) -> int:
    others = (
        select(lanes.c.id)
        .where(
            lanes.c.project == run.project,
            lanes.c.queue == run.queue,
            lanes.c.rank.is_not(None),
            lanes.c.id != run.lane,
        )
        .limit(MAX_POSITION)
        .subquery()
    )
    return int(conn.scalar(select(func.count()).select_from(others)) or 0)
