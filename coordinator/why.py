"""Why a run is not running: the first thing that stands in its way, in words and in numbers."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, or_, select

from coordinator.attempts import fleet
from coordinator.foundation.errors import NotFound
from coordinator.foundation.limits import MAX_POSITION
from coordinator.line import queues
from coordinator.runs.views import iso
from coordinator.storage.tables import IS_QUEUED, deployments, lanes
from coordinator.storage.tables import queues as queued_in
from coordinator.storage.tables import runs as table
from coordinator.storage.values import decode
from coordinator.waits import waits
from coordinator.wire import FINAL, Why, WhyReason

#: Waits of one run that are named.
_MOST_WAITS = 5

#: A run, with what becomes of its deployment's image, its queue (`queue_...`), and what occupies that.
_RUN = (
    select(
        table,
        *(deployments.c[name] for name in ("rebuild_due_at", "build_lease", "rebuild_error")),
        *(column.label(f"queue_{column.name}") for column in queued_in.columns),
        *queues.OCCUPIED,
    )
    .join_from(table, deployments, deployments.c.id == table.c.deployment_id)
    .outerjoin(queued_in, (queued_in.c.project == table.c.project) & (queued_in.c.name == table.c.queue))
    .where(table.c.id == bindparam("run"))
)
_AHEAD = (
    select(table.c.id)
    .where(
        IS_QUEUED,
        table.c.lane == bindparam("lane"),
        or_(
            table.c.order_at < bindparam("order_at"),
            (table.c.order_at == bindparam("order_at")) & (table.c.id < bindparam("run")),
        ),
    )
    .limit(MAX_POSITION - 1)
    .subquery()
)
_OTHERS = (
    select(lanes.c.id)
    .where(
        lanes.c.project == bindparam("project"),
        lanes.c.queue == bindparam("queue"),
        lanes.c.rank.is_not(None),
        lanes.c.id != bindparam("lane"),
    )
    .limit(MAX_POSITION)
    .subquery()
)
#: How many stand before it in its lane, and the other lanes of its queue.
_PLACE = select(
    select(func.count()).select_from(_AHEAD).scalar_subquery().label("ahead"),
    select(func.count()).select_from(_OTHERS).scalar_subquery().label("others"),
)


def explain(conn: Connection, now: float, run_id: str, max_running: int | None = None) -> Why:
    """Raises NotFound. `max_running` is the limit over all queues."""
    run: Any = conn.execute(_RUN, {"run": run_id}).one_or_none()
    if run is None:
        raise NotFound(f"there is no run {run_id!r}")
    if run.status == "delayed":
        return _delayed(run)
    if run.status == "waiting":
        return _waiting(conn, run)
    if run.status != "queued":
        return _not_queued(run)
    found = _in_the_way(conn, now, run, max_running)
    values = {column: getattr(run, column) for column in ("lane", "order_at", "project", "queue")}
    there = conn.execute(_PLACE, {**values, "run": run.id}).one()
    position, others = int(there.ahead) + 1, int(there.others)
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


def _image(now: float, run: Row[Any]) -> Why | None:
    if run.rebuild_due_at is None:
        return None
    gone = f"the image of {run.project} {run.version} is gone from the engine"
    if run.build_lease is not None and run.build_lease > now:
        return _answer(run, "image", f"{gone}, and is built again now")
    if run.rebuild_error is None:
        return _answer(run, "image", f"{gone}, and waits for a runner that builds it again")
    until = iso(run.rebuild_due_at)
    why = decode(run.rebuild_error)["message"]
    words = f"{gone}, and could not be built again: {why}; the next try is at {until}"
    return _answer(run, "image", words, until=until)


def _in_the_way(conn: Connection, now: float, run: Row[Any], max_running: int | None) -> Why:
    if (parked := _image(now, run)) is not None:
        return parked
    if run.queue_name is not None and (found := _queue(conn, now, run)) is not None:
        return found
    if max_running is not None and (occupied := run.occupied_in_all) >= max_running:
        words = f"{occupied} runs are running, of {max_running} that may at once over all queues"
        return _answer(run, "global_limit", words, limit=max_running, occupied=occupied)
    return _fleet(conn, now, run)


def _queue(conn: Connection, now: float, run: Row[Any]) -> Why | None:
    limits = queues.read(run, "queue_")
    name, key = limits.name, run.concurrency_key
    if limits.paused:
        return _answer(run, "paused", f"its queue {name!r} is paused; samovar queues resume {name}")
    if limits.concurrency is not None and (occupied := run.occupied) >= limits.concurrency:
        words = f"its queue {name!r} is full: {occupied} of {limits.concurrency} runs are running"
        return _answer(run, "queue_limit", words, limit=limits.concurrency, occupied=occupied)
    if limits.per_key is not None and key is not None and (occupied := run.occupied_of_key) >= limits.per_key:
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
    found = fleet.read(conn, now)
    obstacle = found.obstacle(run.project, run.memory)
    if obstacle is None:
        return _answer(run, "turn", "")
    if obstacle == "no_runner":
        return _answer(
            run, "no_runner", "no runner is alive; `samovar up` starts one, `samovar doctor` looks further"
        )
    if obstacle == "share":
        shared = found.shared(run.project)
        words = (
            f"the runs of {run.project!r} hold its share of every host that has room, and what is left to it there "
            f"is {shared} bytes; the operator sets shares in policy.toml, [shares]"
        )
        return _answer(run, "share", words, limit=run.memory, occupied=shared)
    if found.largest is not None and run.memory > found.largest:
        most = f"the most that a runner gives one task is {found.largest}"
        return _answer(run, "memory", f"it asks for {run.memory} bytes of memory, and {most}", limit=found.largest)
    words = f"no runner has {run.memory} bytes of memory and a slot free now: the most is {found.free}"
    held = sum(host.memory - host.room.memory for host in found.hosts)
    return _answer(run, "memory", words, limit=max(host.memory for host in found.hosts), occupied=held)
