"""What if the hosts had another memory: the starts of a day, as they are replayed by the rules of the pool.

Read from attempts, newest first, and only so many of them. What is asked of the pool is when a run was claimed, for
how long it had its container, and what a start of its kind takes. All live hosts count as one.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, select

from coordinator.foundation import ids
from coordinator.foundation.limits import RUNNER_ALIVE
from coordinator.keeping import replaying
from coordinator.keeping.forecast import START
from coordinator.keeping.replay import Call, Task
from coordinator.storage.tables import attempts, deployments, runners, runs, tasks
from coordinator.tasks.index import stored_options

DAY = 86400.0
#: Starts of one look, and runs that a look at a project goes through for them.
MOST = 20_000
#: For how long a run may have waited, slept or been tried again, and its starts are still found by its project.
_OLDEST_RUN = 7 * DAY
#: What the hosts give now, times these.
FACTORS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
_CHUNK = 2000
#: Seconds by which the clock that names attempts may be behind the database's.
_APART_AT_MOST = 3600.0
#: Of a task's options, what tells its containers from those of other tasks of its version.
_APART = {"cpu", "network", "mounts", "trust", "pids", "scratch"}

_OF_ATTEMPT = (
    attempts.c.run_id,
    attempts.c.memory,
    attempts.c.start,
    attempts.c.claimed_at,
    attempts.c.started_at,
    attempts.c.finished_at,
    attempts.c.starting_ms,
    attempts.c.importing_ms,
    attempts.c.handed_ms,
)
_OF_RUN = (runs.c.project, runs.c.task, runs.c.deployment_id)

#: Attempts, and where they end if that is not the day's beginning.
_Read = tuple[list[Row[Any]], float | None]


class Day(NamedTuple):
    """`request`: what is replayed, for `memories` (bytes). `memory`: what all live hosts give, None without one.

    `since`: how far back it was looked; `cut_short`: not for a whole day, because there was too much of it. `runs`,
    `cold` and `delay`: how many began, how many of them with a new container, and how long they took from being
    claimed to their first line together, in seconds: as it was.
    """

    request: bytes
    memories: list[int]
    memory: int | None
    since: float
    cut_short: bool
    runs: int
    cold: int
    delay: float


def read(conn: Connection, now: float, project: str | None, most: int = MOST) -> Day:
    """The last day's starts of a project, or of all."""
    since = now - DAY
    rows, oldest = (_of_all if project is None else _of_project)(conn, now, project, most)
    begun = [row for row in rows if row.claimed_at >= since and row.started_at is not None]
    begun.sort(key=lambda row: row.claimed_at)
    calls = _calls(conn, now, begun)
    alive = select(runners.c.memory).where(runners.c.seen_at > now - RUNNER_ALIVE)
    memory = sum(conn.scalars(alive)) or None
    # of a day on which nobody is alive any more: what was wanted at the busiest moment
    base = memory or _busiest(calls)
    memories = sorted({int(base * factor) for factor in FACTORS}) if calls else []
    return Day(
        request=replaying.request(calls, memories),
        memories=memories,
        memory=memory,
        since=since if oldest is None else max(since, oldest),
        cut_short=oldest is not None and oldest > since,
        runs=len(begun),
        cold=sum(row.start == "cold" for row in begun),
        delay=sum(max(0.0, row.started_at - row.claimed_at) for row in begun),
    )


def _of_all(conn: Connection, now: float, project: str | None, most: int) -> _Read:
    newest = (
        select(*_OF_ATTEMPT)
        .where(attempts.c.id >= ids.least("att", now - DAY - _APART_AT_MOST))
        .order_by(attempts.c.id.desc())
        .limit(most + 1)
        .subquery()
    )
    rows: list[Row[Any]] = list(
        conn.execute(select(*newest.c, *_OF_RUN).join_from(newest, runs, runs.c.id == newest.c.run_id))
    )
    if len(rows) <= most:
        return rows, None
    rows.sort(key=lambda row: row.claimed_at)
    del rows[0]
    return rows, rows[0].claimed_at


def _of_project(conn: Connection, now: float, project: str | None, most: int) -> _Read:
    """The attempts of its newest runs: no index has a project's attempts, and others may have many more."""
    newest = (
        select(runs.c.id, runs.c.created_at, runs.c.attempts)
        .where(runs.c.project == project, runs.c.id >= ids.least("run", now - _OLDEST_RUN))
        .order_by(runs.c.id.desc())
        .limit(most)
    )
    looked_at = conn.execute(newest).all()
    begun = [row.id for row in looked_at if row.attempts]
    oldest = looked_at[-1].created_at if len(looked_at) == most else None
    rows: list[Row[Any]] = []
    query = select(*_OF_ATTEMPT, *_OF_RUN).join_from(attempts, runs, runs.c.id == attempts.c.run_id)
    query = query.where(attempts.c.claimed_at >= now - DAY)
    for first in range(0, len(begun), _CHUNK):
        some = begun[first : first + _CHUNK]
        rows += conn.execute(query.where(attempts.c.run_id.in_(some)).limit(most + 1 - len(rows)))
        if len(rows) > most:
            return rows[:most], min(row.claimed_at for row in rows[:most])
    return rows, oldest


def _calls(conn: Connection, now: float, begun: Sequence[Row[Any]]) -> list[Call]:
    kinds = _kinds(conn, begun)
    starts: dict[str, list[float]] = defaultdict(list)
    for row in begun:
        if row.start == "cold" and row.starting_ms is not None:
            took = row.starting_ms + (row.importing_ms or 0.0) + (row.handed_ms or 0.0)
            starts[_kind(kinds, row)[0]].append(took / 1000)
    seen = [took for each in starts.values() for took in each]
    usual = sum(seen) / len(seen) if seen else START
    made: dict[tuple[str, str, int], Task] = {}
    calls = []
    for row in begun:
        kind, kept = _kind(kinds, row)
        name = f"{row.project}/{row.task}"
        task = made.get((name, kind, row.memory))
        if task is None:
            took = sum(starts[kind]) / len(starts[kind]) if starts.get(kind) else usual
            task = made[name, kind, row.memory] = Task(name, row.memory, took, kind, kept)
        until = now if row.finished_at is None else row.finished_at
        calls.append(Call(row.claimed_at, task, max(0.0, until - row.started_at)))
    return calls


_Kinds = dict[tuple[str, str], tuple[str, bool]]


def _kinds(conn: Connection, begun: Sequence[Row[Any]]) -> _Kinds:
    """Of each task of a version: what its containers are, and whether they are kept."""
    versions = sorted({row.deployment_id for row in begun})
    names = {(row.deployment_id, row.task) for row in begun}
    found: _Kinds = {}
    for first in range(0, len(versions), _CHUNK):
        of = deployments.c.id.in_(versions[first : first + _CHUNK])
        query = select(
            deployments.c.project, deployments.c.image, tasks.c.deployment_id, tasks.c.task, tasks.c.options
        )
        for row in conn.execute(
            query.join_from(tasks, deployments, tasks.c.deployment_id == deployments.c.id).where(of)
        ):
            if (row.deployment_id, row.task) in names:
                options = stored_options(row.options)
                apart = options.model_dump(mode="json", include=_APART)
                apart["inline"] = options.given_isolation == "inline"
                kind = [row.project, row.image or row.deployment_id, apart]
                kept = options.warm and options.trust != "untrusted"
                found[row.deployment_id, row.task] = json.dumps(kind, sort_keys=True), kept
    return found


def _kind(kinds: _Kinds, row: Row[Any]) -> tuple[str, bool]:
    kind, kept = kinds.get((row.deployment_id, row.task), (row.deployment_id, True))
    return f"{row.memory} {kind}", kept


def _busiest(calls: Sequence[Call]) -> int:
    """The most bytes that runs have had at once."""
    changes = [(call.at, call.task.memory) for call in calls]
    changes += [(call.at + call.seconds, -call.task.memory) for call in calls]
    # at one time ends come first
    return max(accumulate(change for _, change in sorted(changes)), default=0)
