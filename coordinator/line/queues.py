"""Queues: their limits as the code declares them and as they were changed live, and what occupies them.

What occupies a queue is counted from the rows of its runs, never beside them. A limit is held by a lock on the
queue's row: claims of a limited queue go one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    bindparam,
    case,
    func,
    literal,
    literal_column,
    or_,
    select,
    tuple_,
    union_all,
    update,
)

from coordinator.foundation.errors import Conflict, NotFound
from coordinator.line import lanes
from coordinator.storage import dialect
from coordinator.storage.prepared import Prepared
from coordinator.storage.tables import IS_QUEUED, IS_RUNNING, queues, runs, tasks
from coordinator.tasks.index import QueueOptions, TaskOptions, stored_options
from coordinator.wire import QueuePatch

#: Runs in line that are looked at to know which has been there for longest.
_OLDEST = 5_000
_THIS = (queues.c.project == bindparam("project")) & (queues.c.name == bindparam("name"))
_ROW = select(queues).where(_THIS)
_GET = Prepared(_ROW)
_LOCKED = {
    (share, wait): Prepared(_ROW.with_for_update(read=share, skip_locked=not wait))
    for share in (True, False)
    for wait in (True, False)
}
_OF_QUEUE = (runs.c.project == bindparam("project")) & (runs.c.queue == bindparam("name"))
_IN_QUEUE = select(func.count()).select_from(runs).where(IS_RUNNING, _OF_QUEUE)
_RUNNING = Prepared(_IN_QUEUE)
_RUNNING_OF_KEY = Prepared(_IN_QUEUE.where(runs.c.concurrency_key == bindparam("key")))
#: State, project and queue, and how many runs of each there are: each state by an index of its own.
_COUNTED = union_all(
    *(
        select(literal_column(f"'{word}'"), runs.c.project, runs.c.queue, func.count())
        .where(state)
        .group_by(runs.c.project, runs.c.queue)
        for word, state in (("running", IS_RUNNING), ("queued", IS_QUEUED))
    )
)
#: What occupies the queue of a run, its key there, and all queues: for the statement that selects the run.
_OTHER = runs.alias()
_ALL = select(func.count()).select_from(_OTHER).where(_OTHER.c.status == literal_column("'running'"))
_BESIDE = _ALL.where(_OTHER.c.project == runs.c.project, _OTHER.c.queue == runs.c.queue).correlate(runs)
OCCUPIED = (
    _BESIDE.scalar_subquery().label("occupied"),
    _BESIDE.where(_OTHER.c.concurrency_key == runs.c.concurrency_key).scalar_subquery().label("occupied_of_key"),
    _ALL.scalar_subquery().label("occupied_in_all"),
)
_RATED = (
    select(runs.c.rated_at)
    .where(_OF_QUEUE, runs.c.rated_at.is_not(None))
    .order_by(runs.c.rated_at.desc())
    .offset(bindparam("before"))
    .limit(1)
)
_RATED_OF_KEY = Prepared(_RATED.where(runs.c.concurrency_key == bindparam("key")))
_RATED_OF_NONE = Prepared(_RATED.where(runs.c.concurrency_key.is_(None)))

T = TypeVar("T", str, ColumnElement[str])

_UNITS = {1.0: "s", 60.0: "m", 3600.0: "h", 86400.0: "d"}


@dataclass(frozen=True)
class Limits:
    """A queue's row, read: what holds for it now."""

    project: str
    name: str
    concurrency: int | None
    declared: int | None
    overridden: bool
    per_key: int | None
    rate_limit: int | None
    rate_period: float
    rate_excess: Literal["wait", "refuse"]
    on_full: Literal["queue", "skip", "cancel_running", "keep_newest"]
    paused: bool

    @property
    def limited(self) -> bool:
        """Whether claims of it have to go one after the other."""
        return self.concurrency is not None or self.per_key is not None or self.throttles

    @property
    def throttles(self) -> bool:
        """Whether its runs wait for its rate."""
        return self.rate_limit is not None and self.rate_excess == "wait"

    @property
    def refuses(self) -> bool:
        """Whether its triggers are refused beyond its rate."""
        return self.rate_limit is not None and self.rate_excess == "refuse"

    @property
    def rate(self) -> str | None:
        """The rate as text, such as "100/m"."""
        if self.rate_limit is None:
            return None
        return f"{self.rate_limit}/{_UNITS.get(self.rate_period, f'{self.rate_period:g}s')}"


def read(row: Row[Any], prefix: str = "") -> Limits:
    """The limits in a row of the table, or in one that has its columns under names with a prefix."""
    of = {column.name: row._mapping[f"{prefix}{column.name}"] for column in queues.columns}
    overridden = of["override"] is not None
    return Limits(
        project=of["project"],
        name=of["name"],
        concurrency=of["override"] if overridden else of["concurrency"],
        declared=of["concurrency"],
        overridden=overridden,
        per_key=of["per_key"],
        rate_limit=of["rate_limit"],
        rate_period=of["rate_period"] or 0.0,
        rate_excess=of["rate_excess"],
        on_full=of["on_full"],
        paused=of["paused"],
    )


def name_of(task: str, options: TaskOptions) -> str:
    """The queue of a task: the one it declares, or one of its own."""
    return of_its_own(task) if options.queue is None else options.queue.name


def of_its_own(task: T) -> T:
    """The queue of a task (a name, or the column of names) that declares none."""
    return "task/" + task


# ---------------------------------------------------------------- declared by the code


def declare(conn: Connection, project: str, deployment: str) -> None:
    """Makes the queues of a deployment that has become current what its code says; live changes stay."""
    found = conn.execute(select(tasks.c.task, tasks.c.options).where(tasks.c.deployment_id == deployment))
    declared: dict[str, QueueOptions | None] = {}
    for task, text in found:
        options = stored_options(text)
        declared[name_of(task, options)] = options.queue
    for name, options_ in sorted(declared.items()):
        ensure(conn, project, name, options_)
        before = lock(conn, project, name)
        values = _values(options_)
        conn.execute(update(queues).where(queues.c.project == project, queues.c.name == name).values(**values))
        if before is not None and (before.rate_limit, before.rate_period) != (
            values["rate_limit"],
            values["rate_period"] or 0.0,
        ):
            lanes.reopen(conn, project, name)


def ensure(conn: Connection, project: str, name: str, options: QueueOptions | None) -> None:
    """Makes the queue where there is none: a version that is not current may have one that the current has not."""
    conn.execute(
        dialect.insert(conn.dialect.name, queues)
        .values(project=project, name=name, override=None, paused=False, **_values(options))
        .on_conflict_do_nothing()
    )


def _values(options: QueueOptions | None) -> dict[str, Any]:
    options = options or QueueOptions(name="none")
    return {
        "concurrency": options.concurrency,
        "per_key": options.per_key,
        "rate_limit": options.rate.limit if options.rate else None,
        "rate_period": options.rate.period if options.rate else None,
        "rate_excess": options.rate_excess,
        "on_full": options.on_full,
    }


# ---------------------------------------------------------------- what holds now


def get(conn: Connection, project: str, name: str) -> Limits | None:
    row = conn.execute(_GET, {"project": project, "name": name}).one_or_none()
    return None if row is None else read(row)


def lock(conn: Connection, project: str, name: str, *, share: bool = False, wait: bool = True) -> Limits | None:
    """The limits, held as they are until the transaction ends; None where there is no such queue.

    With `share` others may hold it too: it is only not changed. Without `wait`, None where it is held already.
    """
    row = conn.execute(_LOCKED[share, wait], {"project": project, "name": name}).one_or_none()
    return None if row is None else read(row)


def running(conn: Connection, project: str, name: str, key: str | None = None) -> int:
    """How many of its runs (with this key) execute now. A run that waits holds no place."""
    values = {"project": project, "name": name}
    if key is None:
        return int(conn.scalar(_RUNNING, values) or 0)
    return int(conn.scalar(_RUNNING_OF_KEY, {**values, "key": key}) or 0)


def rate_opens_at(conn: Connection, now: float, limits: Limits, key: str | None) -> float | None:
    """When the rate lets the next run start; None for now. In no period are there more starts than the limit."""
    assert limits.rate_limit is not None
    values = {"project": limits.project, "name": limits.name, "before": limits.rate_limit - 1}
    if key is None:
        earlier = conn.scalar(_RATED_OF_NONE, values)
    else:
        earlier = conn.scalar(_RATED_OF_KEY, {**values, "key": key})
    if earlier is None or earlier + limits.rate_period <= now:
        return None
    return float(earlier) + limits.rate_period


# ---------------------------------------------------------------- looked at and changed


def listing(conn: Connection, now: float, project: str | None = None) -> list[tuple[Limits, int, int]]:
    """Every queue, with how many of its runs are running and queued."""
    query = select(queues).order_by(queues.c.project, queues.c.name)
    if project is not None:
        query = query.where(queues.c.project == project)
    counted = {(row[0], row[1], row[2]): row[3] for row in conn.execute(_COUNTED)}
    found = [read(row) for row in conn.execute(query)]
    return [(q, *(counted.get((state, q.project, q.name), 0) for state in ("running", "queued"))) for q in found]


def oldest(conn: Connection, now: float, project: str | None = None) -> dict[tuple[str, str], tuple[str, float]]:
    """By project and queue the run that has been in line there for longest, and when it was made. Of those that are
    in line the _OLDEST oldest are looked at: a queue whose runs came after all of these has none.
    """
    # as a range of ix_runs_status: PostgreSQL would read all runs there are in the order of their ids
    key = tuple_(runs.c.status, runs.c.id)
    first, last = (tuple_(literal("queued"), literal(end)) for end in ("", "z"))
    line = select(runs.c.id, runs.c.project, runs.c.queue).where(key > first, key < last)
    if project is not None:
        line = line.where(func.coalesce(runs.c.project, "") == project)
    first_ones = line.order_by(runs.c.status, runs.c.id).limit(_OLDEST).subquery()
    each = select(func.min(first_ones.c.id)).group_by(first_ones.c.project, first_ones.c.queue)
    of = (runs.c.project, runs.c.queue, runs.c.id, runs.c.created_at)
    return {(row[0], row[1]): (row[2], row[3]) for row in conn.execute(select(*of).where(runs.c.id.in_(each)))}


def change(
    conn: Connection, now: float, name: str, project: str | None, patch: QueuePatch
) -> tuple[Limits, int, int]:
    """A live change; once it is answered, no claim goes by what held before.

    Raises NotFound (`unknown_queue`), Conflict (`ambiguous_queue`).
    """
    whose = _project_of(conn, name, project)
    values: dict[str, Any] = {}
    if "concurrency" in patch.model_fields_set:
        values["override"] = patch.concurrency
    if patch.paused is not None:
        values["paused"] = patch.paused
    if values:
        conn.execute(update(queues).where(queues.c.project == whose, queues.c.name == name).values(**values))
    limits = get(conn, whose, name)
    assert limits is not None
    queued = select(func.count()).select_from(runs).where(IS_QUEUED, _OF_QUEUE)
    waiting = conn.scalar(queued, {"project": whose, "name": name}) or 0
    return limits, running(conn, whose, name), waiting


def keys(
    conn: Connection, now: float, name: str, project: str | None, most: int
) -> tuple[str, list[tuple[str, int, int]], bool]:
    """Whose the queue is; of its concurrency keys those with the most runs, with how many are running and queued;
    and whether there are more. Raises as `change`.
    """
    whose = _project_of(conn, name, project)
    running_now, queued_now = (
        func.sum(case((runs.c.status == status, 1), else_=0)) for status in ("running", "queued")
    )
    some = (
        select(runs.c.concurrency_key, running_now, queued_now)
        .where(or_(IS_RUNNING, IS_QUEUED), runs.c.project == whose, runs.c.queue == name)
        .where(runs.c.concurrency_key.is_not(None))
        .group_by(runs.c.concurrency_key)
        .order_by(func.count().desc(), runs.c.concurrency_key)
        .limit(most + 1)
    )
    found = [(row[0], int(row[1]), int(row[2])) for row in conn.execute(some)]
    return whose, found[:most], len(found) > most


def _project_of(conn: Connection, name: str, project: str | None) -> str:
    """Whose the queue is. Raises as `change`."""
    query = select(queues.c.project).where(queues.c.name == name).order_by(queues.c.project)
    if project is not None:
        query = query.where(queues.c.project == project)
    of = list(conn.scalars(query))
    if not of:
        seen = select(queues.c.name).order_by(queues.c.name).distinct().limit(20)
        if project is not None:
            seen = seen.where(queues.c.project == project)
        names = list(conn.scalars(seen))
        known = f"there are {', '.join(names)}" if names else "nothing is deployed yet"
        raise NotFound(f"there is no queue {name!r}: {known}", code="unknown_queue")
    if len(of) > 1:
        raise Conflict(
            f"several projects have a queue {name!r}: name one with project={' or project='.join(of)}",
            code="ambiguous_queue",
        )
    return str(of[0])
