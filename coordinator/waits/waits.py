"""Waits: what a run is suspended over, and how it goes on.

A wait is a row that is stored when the run first asks for it, and asked for again by every later attempt that
comes to it. It is pending until something resolves it: its time, an event, a token that is completed, a child that
ends. A run that has nothing to do meanwhile gives its container back and is `waiting`; whoever resolves a wait that
it is suspended over queues it again, in the same transaction.

Every function that changes a wait holds the lock of its run first. So a wait that is resolved while its run is
about to be suspended is either seen by the suspension, or sees a run that is suspended: never neither.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Row, and_, bindparam, func, insert, or_, select, tuple_, update

from coordinator.access import leases
from coordinator.foundation.errors import Conflict, Gone, NotFound, TooLarge, invalid_field
from coordinator.foundation.limits import MAX_DELAY, MAX_WAITS, PRELOAD
from coordinator.foundation.states import RUN, sources
from coordinator.signals import waking
from coordinator.storage.prepared import Prepared
from coordinator.storage.tables import IS_PENDING, attempts, checkpoints, runs, tasks, waits
from coordinator.storage.values import Stored
from coordinator.wire import Json, WaitCall

_BATCH = 500
#: The value of what is only over, as a sleep is.
NOTHING = Stored("null", None, 4)

_HELD = Prepared(
    select(runs)
    .join_from(attempts, runs, runs.c.id == attempts.c.run_id)
    .where(attempts.c.id == bindparam("attempt"))
    .with_for_update(of=runs)
)
_ONE = Prepared(select(waits).where(waits.c.run_id == bindparam("run"), waits.c.key == bindparam("wanted")))
_LAST = Prepared(
    select(
        select(func.max(checkpoints.c.position)).where(checkpoints.c.run_id == bindparam("run")).scalar_subquery(),
        select(func.max(waits.c.position)).where(waits.c.run_id == bindparam("run")).scalar_subquery(),
        select(func.count()).select_from(waits).where(waits.c.run_id == bindparam("run")).scalar_subquery(),
        select(func.count())
        .select_from(checkpoints)
        .where(checkpoints.c.run_id == bindparam("run"), checkpoints.c.key == bindparam("wanted"))
        .scalar_subquery(),
    )
)
_STORED = Prepared(
    select(waits)
    .where(waits.c.run_id == bindparam("run"), waits.c.status.in_(("done", "timed_out")))
    .order_by(waits.c.position)
)

_OPTIONS = Prepared(
    select(tasks.c.options).where(
        tasks.c.deployment_id == bindparam("deployment"), tasks.c.task == bindparam("task")
    )
)
_CLOSE = Prepared(
    update(waits)
    .where(waits.c.run_id.in_(bindparam("of", expanding=True)), IS_PENDING)
    .values(status="closed", resolved_at=bindparam("at"))
    .returning(*waits.c)
)
#: What makes runs of others, or an address that others may write to.
_REACHES_OUT = frozenset({"token", "trigger", "run", "batch_trigger", "batch"})

#: What the waits of each kind are called in sentences.
WORDS = {
    "sleep": "a sleep",
    "until": "a wait until a time",
    "event": "a wait for the event",
    "token": "a wait for a token",
    "trigger": "a trigger of",
    "run": "a wait for a run of",
    "batch_trigger": "a batch of",
    "batch": "a wait for a batch of",
}


class Called(NamedTuple):
    """A wait as its run finds it. `topics` are to be woken."""

    row: Row[Any]
    topics: set[str]


# ---------------------------------------------------------------- the run asks


def call(
    conn: Connection,
    now: float,
    attempt_id: str,
    body: WaitCall,
    token_hash: str | None = None,
    of: Callable[[Row[Any]], dict[str, Any]] = lambda run: {},
) -> Called:
    """The wait of a key: stored now, or as it was stored before. `token_hash` is that of a token's id; `of` gives
    what else is stored of a new one, for its run.

    Raises StaleAttempt, Invalid, TooLarge, and Conflict (`nondeterministic`) where the key is that of another.
    """
    run = open_run(conn, now, attempt_id, body.token)
    row = find(conn, run.id, body)
    if row is None:
        row = add(conn, now, run, body, due_at=_due_at(now, body), token_hash=token_hash, **of(run))
    elif row.status == "pending" and row.due_at is not None and row.due_at <= now:
        # its time is up, and the sweep has not come by yet
        resolve(conn, now, [(run.id, body.key)], _outcome(row.kind), [])
        row = conn.execute(_ONE, {"run": run.id, "wanted": body.key}).one()
    return Called(row, {waking.DUE} if row.due_at is not None and row.status == "pending" else set())


def open_run(conn: Connection, now: float, attempt_id: str, token: int) -> Row[Any]:
    """The run of an attempt that holds it, locked. Raises StaleAttempt."""
    run = conn.execute(_HELD, {"attempt": attempt_id}).one_or_none()
    if run is None:
        raise leases.stale(attempt_id)
    leases.require(conn, now, attempt_id, token)
    return run


def find(conn: Connection, run_id: str, body: WaitCall) -> Row[Any] | None:
    """The stored wait. Raises Conflict (`nondeterministic`) where it was asked for as another."""
    row = conn.execute(_ONE, {"run": run_id, "wanted": body.key}).one_or_none()
    if row is not None and (row.kind, row.name) != (body.kind, body.name):
        raise mixed(body.key, describe(row.kind, row.name), describe(body.kind, body.name))
    return row


def add(conn: Connection, now: float, run: Row[Any], body: WaitCall, **values: Any) -> Row[Any]:
    """Stores a new wait of a locked run. Raises TooLarge, and Conflict where the key is a checkpoint's."""
    _require_trust(conn, run, body.kind)
    asked = conn.execute(_LAST, {"run": run.id, "wanted": body.key}).one()
    if asked[3]:
        raise mixed(body.key, "a checkpoint", describe(body.kind, body.name))
    if asked[2] >= MAX_WAITS:
        raise TooLarge(
            f"wait {body.key!r}: the run has {asked[2]} waits, which is the limit; let a child run do some of them"
        )
    row = {
        "run_id": run.id,
        "key": body.key,
        "kind": body.kind,
        "name": body.name,
        "position": max(asked[0] or 0, asked[1] or 0) + 1,
        "status": "pending",
        "awaited": False,
        "size": 0,
        "attempt": run.attempts,
        "created_at": now,
        **values,
    }
    return conn.execute(insert(waits).values(row).returning(*waits.c)).one()


def _require_trust(conn: Connection, run: Row[Any], kind: str) -> None:
    """Code that is not trusted asks for nothing that reaches beyond its run. Raises Invalid."""
    if kind not in _REACHES_OUT:
        return
    options = conn.execute(_OPTIONS, {"deployment": run.deployment_id, "task": run.task}).scalar_one_or_none()
    if options is not None and json.loads(options).get("trust") == "untrusted":
        raise invalid_field(
            "kind",
            f'{kind!r}: the task {run.task} has trust="untrusted", and such a task starts no other runs and makes '
            "no tokens; let it return what is to be done, and another task of the project do it",
        )


def describe(kind: str, name: str | None) -> str:
    """A wait in words: "a wait for the event 'paid'"."""
    return WORDS[kind] + (f" {name!r}" if name is not None else "")


def mixed(key: str, stored: str, asked: str) -> Conflict:
    return Conflict(
        f"the run has {stored} under the key {key!r}, and asks for {asked} there now: a run has to come to the "
        "same checkpoints and waits in every attempt; name them with key=, and let nothing but their values decide "
        "its way",
        code="nondeterministic",
    )


def _due_at(now: float, body: WaitCall) -> float | None:
    """When the wait is over by itself. Raises Invalid."""
    if body.kind == "sleep":
        return now + _seconds(body.spec.get("seconds"), "seconds")
    if body.kind == "until":
        at = body.spec.get("at")
        if isinstance(at, bool) or not isinstance(at, (int, float)) or not at <= now + MAX_DELAY:
            raise invalid_field("at", f"{at!r} is no time within the next {MAX_DELAY / 86400:g} days")
        return float(at)
    timeout = body.spec.get("timeout")
    return None if timeout is None else now + _seconds(timeout, "timeout")


def _seconds(value: Json, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_DELAY:
        raise invalid_field(name, f"{value!r}: give seconds from 0 to {MAX_DELAY:g} ({MAX_DELAY / 86400:g} days)")
    return float(value)


# ---------------------------------------------------------------- the run is suspended, and goes on


def suspend(conn: Connection, run_id: str, keys: Iterable[str]) -> Literal["pending", "resolved", "unknown"]:
    """Marks what a run that is about to be suspended waits for.

    `resolved`: something of it has happened already, so that it has to go on at once. `unknown`: nothing of it is
    a wait of this run, so that nothing would ever wake it. The run is locked.
    """
    wanted = list(dict.fromkeys(keys))
    mine = waits.c.run_id == run_id
    found = set(conn.scalars(select(waits.c.status).where(mine, waits.c.key.in_(wanted)).distinct()))
    if found & {"done", "timed_out"}:
        return "resolved"
    if "pending" not in found:
        return "unknown"
    conn.execute(update(waits).where(mine, IS_PENDING, waits.c.awaited).values(awaited=False))
    conn.execute(update(waits).where(mine, IS_PENDING, waits.c.key.in_(wanted)).values(awaited=True))
    return "pending"


def wake(conn: Connection, now: float, run_ids: Iterable[str], queued: list[Row[Any]]) -> None:
    """Queues suspended runs again, and adds them to `queued`. They are locked; one that is not suspended stays."""
    woken = conn.execute(
        update(runs)
        .where(runs.c.id.in_(list(run_ids)), runs.c.status.in_(sources(RUN, by="waits.wake")))
        .values(status="queued", queued_at=now, order_at=now - runs.c.priority)
        .returning(*runs.c)
    )
    queued += woken.all()


def close(conn: Connection, now: float, run_ids: list[str]) -> list[Row[Any]]:
    """Ends what is still waited for by runs that have ended; the rows."""
    return list(conn.execute(_CLOSE, {"of": run_ids, "at": now}))


def resolve(
    conn: Connection,
    now: float,
    pairs: list[tuple[str, str]],
    status: Literal["done", "timed_out"],
    queued: list[Row[Any]],
    value: Stored = NOTHING,
    event: str | None = None,
) -> set[str]:
    """Resolves pending waits (run, key) of locked runs, and wakes the runs; the topics."""
    changed = conn.execute(
        update(waits)
        .where(tuple_(waits.c.run_id, waits.c.key).in_(pairs), IS_PENDING)
        .values(
            status=status,
            resolved_at=now,
            value=value.text,
            value_blob=value.blob,
            size=value.size,
            event=event,
        )
        .returning(waits.c.run_id, waits.c.awaited)
    ).all()
    before = len(queued)
    wake(conn, now, {row.run_id for row in changed if row.awaited}, queued)
    topics = {waking.run(row.run_id) for row in changed}
    return topics | ({waking.CLAIMS} if len(queued) > before else set())


def _outcome(kind: str) -> Literal["done", "timed_out"]:
    return "done" if kind in ("sleep", "until") else "timed_out"


# ---------------------------------------------------------------- what resolves them


def due(conn: Connection, now: float, queued: list[Row[Any]]) -> set[str]:
    """Waits whose time is up: sleeps are done, everything else has timed out."""
    late = conn.execute(
        select(waits.c.run_id, waits.c.key, waits.c.kind)
        .where(IS_PENDING, waits.c.due_at <= now)
        .order_by(waits.c.due_at)
        .limit(_BATCH)
    ).all()
    if not late:
        return set()
    # one that is being changed is due the next time
    query = select(runs.c.id).where(runs.c.id.in_({row.run_id for row in late})).order_by(runs.c.id)
    locked = set(conn.scalars(query.with_for_update(skip_locked=True)))
    topics: set[str] = set()
    for status in ("done", "timed_out"):
        pairs = [(r.run_id, r.key) for r in late if r.run_id in locked and _outcome(r.kind) == status]
        if pairs:
            topics |= resolve(conn, now, pairs, status, queued)
    return topics


def next_due(conn: Connection) -> float | None:
    """When the next wait's time is up."""
    first: float | None = conn.scalar(
        select(func.min(waits.c.due_at)).where(IS_PENDING, waits.c.due_at.is_not(None))
    )
    return first


def check_token(conn: Connection, now: float, token_hash: str) -> None:
    """Raises NotFound where nothing waits, or has waited, for this token."""
    if conn.scalar(select(waits.c.run_id).where(waits.c.token_hash == token_hash)) is None:
        raise NotFound("there is no such token", code="unknown_token")


def complete(conn: Connection, now: float, token_hash: str, value: Stored, queued: list[Row[Any]]) -> set[str]:
    """Completes the wait of a token. Raises NotFound, Conflict (`completed_already`), Gone."""
    by_hash = select(waits).where(waits.c.token_hash == token_hash)
    row = conn.execute(by_hash).one_or_none()
    if row is None:
        raise NotFound("there is no such token", code="unknown_token")
    conn.execute(select(runs.c.id).where(runs.c.id == row.run_id).with_for_update())
    row = conn.execute(by_hash).one()
    if row.status == "done":
        raise Conflict("this token was completed already; what came first holds", code="completed_already")
    if row.status == "closed":
        raise Gone("the run that waited for this token has ended", code="token_closed")
    if row.status == "timed_out" or (row.due_at is not None and row.due_at <= now):
        raise Gone("this token was not completed in time; its run has gone on without it", code="token_timed_out")
    return resolve(conn, now, [(row.run_id, row.key)], "done", queued, value)


def resolve_children(
    conn: Connection, now: float, parent: str, keys: list[str], queued: list[Row[Any]]
) -> set[str]:
    """The children of these waits have all ended. The parent is locked."""
    return resolve(conn, now, [(parent, key) for key in keys], "done", queued)


# ---------------------------------------------------------------- looking


def stored(conn: Connection, run_id: str) -> tuple[list[Row[Any]], set[str]]:
    """The waits of a run that are over, in their order, and the keys of those to be sent along unasked."""
    rows = list(conn.execute(_STORED, {"run": run_id}))
    total, sent = 0, set()
    for row in rows:
        total += row.size
        # how children ended is asked for: it stands in their rows
        if total <= PRELOAD and row.kind not in ("run", "batch"):
            sent.add(row.key)
    return rows, sent


def listing(
    conn: Connection, now: float, project: str | None, kind: str, after: str | None, limit: int
) -> tuple[list[Row[Any]], str | None]:
    """What runs wait for now, those of the newest runs first, with the `project` and `task` of each; and the cursor
    of the next page, a run's id and its key.
    """
    query = (
        select(waits, runs.c.project, runs.c.task)
        .join(runs, runs.c.id == waits.c.run_id)
        .where(waits.c.kind == kind, IS_PENDING)
        .order_by(waits.c.run_id.desc(), waits.c.key.desc())
        .limit(limit + 1)
    )
    if project is not None:
        query = query.where(runs.c.project == project)
    if after is not None:
        run, _, key = after.partition("/")
        query = query.where(or_(waits.c.run_id < run, and_(waits.c.run_id == run, waits.c.key < key)))
    rows: list[Row[Any]] = list(conn.execute(query))
    more, rows = len(rows) > limit, rows[:limit]
    return rows, f"{rows[-1].run_id}/{rows[-1].key}" if more else None


def pending(conn: Connection, run_id: str) -> list[Row[Any]]:
    """What a run waits for, the first to be over first."""
    query = select(waits).where(waits.c.run_id == run_id, IS_PENDING, waits.c.awaited)
    return sorted(conn.execute(query), key=lambda row: (row.due_at or float("inf"), row.position))
