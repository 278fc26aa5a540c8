"""Runners as the database knows them: what they give, what they hold, what they are to be told."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, select, update

from coordinator.attempts import pool
from coordinator.foundation.limits import LEASE, UNNAMED
from coordinator.storage import dialect
from coordinator.storage.prepared import Prepared
from coordinator.storage.tables import IS_BUILDING, IS_LIVE, attempts, deployments, runners, runs
from coordinator.wire import Heartbeat, Held, Share, Shares

_LOCK = Prepared(select(runners.c.shares).where(runners.c.name == bindparam("runner")).with_for_update())


def lock(conn: Connection, now: float, runner: str, memory: int, slots: int) -> Shares:
    """Makes the claims of one runner go one after the other: each sees what the other took. Gives its shares."""
    row = conn.execute(_LOCK, {"runner": runner}).one_or_none()
    if row is None:
        conn.execute(
            dialect.insert(conn.dialect.name, runners)
            .values(name=runner, memory=memory, slots=slots, task_memory=None, pool="[]", seen_at=now)
            .on_conflict_do_nothing()
        )
        row = conn.execute(_LOCK, {"runner": runner}).one()
    return shares(row.shares, memory, slots)


def shares(stored: str | None, memory: int, slots: int) -> Shares:
    """What a runner gives to projects of `memory` bytes and `slots`, where it has said `stored`."""
    return Shares(usual=Share.usual(memory, slots)) if stored is None else _shares(stored)


@lru_cache(maxsize=256)
def _shares(stored: str) -> Shares:
    return Shares.model_validate_json(stored)


class Beaten(NamedTuple):
    """`lost`: the ids whose lease is gone. `pool`: the state of the runner's pool that is known now; None: none."""

    lost: list[str]
    pool: str | None


def heartbeat(conn: Connection, now: float, runner: str, beat: Heartbeat) -> Beaten:
    """Stores what the runner says of itself and of its pool, and renews what it names."""
    values = {
        "memory": beat.memory,
        "slots": beat.slots,
        "task_memory": beat.task_memory,
        "shares": None if beat.shares is None else beat.shares.model_dump_json(),
        "seen_at": now,
    }
    conn.execute(
        dialect.insert(conn.dialect.name, runners)
        .values(name=runner, pool="[]", **values)
        .on_conflict_do_update(index_elements=["name"], set_=values)
    )
    known = pool.told(conn, now, runner, beat)
    renewed = {(r.id, r.token) for r in _renew_attempts(conn, now, runner, beat.attempts)}
    renewed |= {(r.id, r.build_token) for r in _renew_builds(conn, now, runner, beat.builds)}
    gone = [held for held in [*beat.attempts, *beat.builds] if (held.id, held.token) not in renewed]
    finished = _finished(conn, gone)
    return Beaten([held.id for held in gone if (held.id, held.token) not in finished], known)


def _finished(conn: Connection, held: list[Held]) -> set[tuple[str, int]]:
    """Those that have ended by their own account: their runner only has not heard of it yet.

    To call them lost would have it destroy a container that is fit for the next run.
    """
    if not held:
        return set()
    query = select(attempts.c.id, attempts.c.token).where(
        attempts.c.id.in_([h.id for h in held]), attempts.c.finish_digest.is_not(None)
    )
    return {(row.id, row.token) for row in conn.execute(query)}


def _renew_attempts(conn: Connection, now: float, runner: str, held: list[Held]) -> list[Row[Any]]:
    if not held:
        return []
    found = conn.execute(
        update(attempts)
        .where(
            attempts.c.runner == runner,
            attempts.c.id.in_([h.id for h in held]),
            IS_LIVE,
            attempts.c.lease_until > now,
        )
        .values(lease_until=now + LEASE)
        .returning(attempts.c.id, attempts.c.token)
    )
    return list(found)


def _renew_builds(conn: Connection, now: float, runner: str, held: list[Held]) -> list[Row[Any]]:
    if not held:
        return []
    found = conn.execute(
        update(deployments)
        .where(
            deployments.c.build_runner == runner,
            deployments.c.id.in_([h.id for h in held]),
            IS_BUILDING,
            deployments.c.build_lease > now,
        )
        .values(build_lease=now + LEASE)
        .returning(deployments.c.id, deployments.c.build_token)
    )
    return list(found)


def unnamed(conn: Connection, now: float, runner: str, named: set[str]) -> list[Row[Any]]:
    """Attempts (`id`, `token`) that the coordinator believes with this runner and the runner does not name.

    The answer to its claim was lost on the way; young ones may still be on it.
    """
    query = select(attempts.c.id, attempts.c.token).where(
        attempts.c.runner == runner, IS_LIVE, attempts.c.claimed_at < now - UNNAMED
    )
    if named:
        query = query.where(attempts.c.id.not_in(named))
    return list(conn.execute(query))


def cancels(conn: Connection, now: float, runner: str, known: list[str]) -> list[str]:
    """Live attempts of the runner whose run is to be canceled, but those it knows."""
    query = (
        select(attempts.c.id)
        .join_from(attempts, runs, runs.c.current_attempt == attempts.c.id)
        .where(attempts.c.runner == runner, IS_LIVE, runs.c.cancel_requested_at.is_not(None))
        .order_by(attempts.c.id)
    )
    return [attempt for attempt in conn.scalars(query) if attempt not in known]
