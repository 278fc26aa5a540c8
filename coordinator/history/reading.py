"""History as it is shown: series of hours and days, and the figures of tasks in a window.

Every function is (conn, now, …) → models or rows: the API and the pages call the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, and_, or_, select, tuple_

from coordinator.foundation.errors import Invalid, invalid_field
from coordinator.foundation.times import iso
from coordinator.history import advice, series
from coordinator.history.figures import Figures, of_row
from coordinator.storage.tables import deployments, history, projects, tasks
from coordinator.storage.values import decode
from coordinator.wire import Ends, HistoryPoint, Spread, TaskFigures, TaskState
from coordinator.wire.history import Step, Window

#: Seconds of each window.
WINDOWS: dict[Window, int] = {"1h": 3600, "24h": 86400, "7d": 7 * 86400, "30d": 30 * 86400}
#: Runs that did not do what they were triggered for.
FAILED = ("failed", "timed_out", "expired")
#: Hours or days of one answer, and tasks.
MOST_POINTS = 1000
MOST_TASKS = 200


# ---------------------------------------------------------------- series


def points(
    conn: Connection, now: float, project: str | None, task: str | None, since: float, step: Step
) -> list[HistoryPoint]:
    """Of a task, of a project (`task` None), or of all (both None), the oldest first. Raises Invalid."""
    if task is not None and project is None:
        raise invalid_field("task", f"{task!r}: say of which project, as project/{task} or with project=")
    first = series.begin(since, step)
    count = (now - first) / series.STEPS[step]
    if count > MOST_POINTS:
        raise _too_many(step, count)
    of: ColumnElement[bool] = history.c.project.in_(select(projects.c.name))
    if project is not None:
        of = history.c.project == project
    query = select(history).where(
        of, history.c.task == (series.ALL if task is None else task), history.c.step == step, history.c.at >= first
    )
    found: dict[int, Figures] = {}
    for row in conn.execute(query):
        found.setdefault(row.at, Figures()).add(of_row(row))
    return [HistoryPoint(at=iso(at), **_ends(figures)) for at, figures in sorted(found.items())]


def _too_many(step: Step, count: float) -> Invalid:
    longer = "; take step=day" if step == "hour" else ""
    return invalid_field("since", f"would be {count:.0f} {step}s, and {MOST_POINTS} are the most{longer}")


# ---------------------------------------------------------------- figures of a window


def begun(now: float, window: Window) -> int:
    """When the window begins: with a full hour."""
    return series.begin(now - WINDOWS[window], "hour")


def figures(
    conn: Connection, now: float, wanted: Sequence[tuple[str, str]], window: Window
) -> dict[tuple[str, str], Figures]:
    """What ended of each (project, task) in the window; what is not there has none. From days where they are
    whole, and hours before the first of them.
    """
    first = begun(now, window)
    whole = math.ceil(first / 86400) * 86400 if WINDOWS[window] > 86400 else None
    of_step = history.c.step == "hour"
    if whole is None:
        when = and_(of_step, history.c.at >= first)
    else:
        hours = and_(of_step, history.c.at >= first, history.c.at < whole)
        when = or_(hours, and_(history.c.step == "day", history.c.at >= whole))
    found: dict[tuple[str, str], Figures] = {}
    if wanted:
        of = tuple_(history.c.project, history.c.task).in_(wanted)
        for row in conn.execute(select(history).where(of, when)):
            found.setdefault((row.project, row.task), Figures()).add(of_row(row))
    return found


class Declared(NamedTuple):
    """Which of the declared tasks; `version`: of this one of the project's, and not of the current one; `after`:
    the last one of the page before.
    """

    project: str | None = None
    task: str | None = None
    version: str | None = None
    after: tuple[str, str] | None = None
    limit: int = 50


def task_states(
    conn: Connection, now: float, wanted: Declared, window: Window
) -> tuple[list[TaskState], tuple[str, str] | None]:
    """The tasks of the versions in order of project and task, and after which one the next page begins."""
    name = (deployments.c.project, tasks.c.task)
    of_one = [] if wanted.task is None else [tasks.c.schema]
    query = (
        select(*name, deployments.c.version, tasks.c.doc, tasks.c.options, *of_one)
        .join_from(deployments, tasks, tasks.c.deployment_id == deployments.c.id)
        .order_by(*name)
        .limit(wanted.limit + 1)
    )
    project = deployments.c.project
    if wanted.version is None:
        query, project = query.join(projects, projects.c.current_deployment == deployments.c.id), projects.c.name
    else:
        query = query.where(deployments.c.version == wanted.version)
    if wanted.project is not None:
        query = query.where(project == wanted.project)
    if wanted.task is not None:
        query = query.where(tasks.c.task == wanted.task)
    if wanted.after is not None:
        query = query.where(tuple_(*name) > tuple_(*wanted.after))
    rows: list[Row[Any]] = list(conn.execute(query))
    shown = rows[: wanted.limit]
    found = figures(conn, now, [(row.project, row.task) for row in shown], window)
    items = [_task(row, found.get((row.project, row.task), Figures()), now, window) for row in shown]
    more = len(rows) > wanted.limit
    return items, (shown[-1].project, shown[-1].task) if more else None


def _task(row: Row[Any], of: Figures, now: float, window: Window) -> TaskState:
    options = decode(row.options)
    return TaskState(
        project=row.project,
        task=row.task,
        version=row.version,
        doc=row.doc,
        options=options,
        parameters=decode(row.schema) if "schema" in row._fields else None,
        figures=task_figures(of, now, window, int(options["memory"])),
    )


def task_figures(of: Figures, now: float, window: Window, asked: int) -> TaskFigures:
    """`asked`: the bytes of memory that the task asks for."""
    first = begun(now, window)
    starts = of.of("starts")
    total = sum(starts.values())
    measured = of.measurements("memory")
    return TaskFigures(
        **_ends(of),
        window=window,
        since=iso(first),
        per_hour=of.runs / max(1.0, now - first) * 3600,
        cold=starts.get("cold", 0) / total if total else None,
        memory=advice.memory(
            asked, of.percentile("memory", 0.99), measured, of.of("reasons").get("out_of_memory", 0)
        ),
    )


def _ends(of: Figures) -> dict[str, Any]:
    statuses = of.of("statuses")
    spreads = {}
    for name in ("queued", "start", "run", "total"):
        middle, high = of.percentiles(name, 0.5, 0.95)
        spreads[f"{name}_ms"] = Spread(p50=middle, p95=high)
    peak = of.percentile("memory", 0.99)
    ends = Ends(
        runs=of.runs,
        failed=sum(statuses.get(status, 0) for status in FAILED),
        attempts=of.attempts,
        statuses=dict(statuses),
        outcomes=dict(of.of("outcomes")),
        reasons=dict(of.of("reasons")),
        starts=dict(of.of("starts")),
        causes=dict(of.of("causes")),
        **spreads,
        peak_p99_bytes=None if peak is None else round(peak),
    )
    return dict(ends)
