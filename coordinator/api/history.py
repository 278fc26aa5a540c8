"""What ended and how: by the hour and the day, and the tasks there are with their figures."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from coordinator.api import moments
from coordinator.api.docs import refusals
from coordinator.api.routers import public
from coordinator.context import Core
from coordinator.foundation.errors import invalid_field
from coordinator.history import reading
from coordinator.wire import HistoryPage, TaskPage
from coordinator.wire.history import Step, Window

router = public("history")


@router.get(
    "/history", response_model=HistoryPage, summary="What ended, by the hour or day", responses=refusals(422)
)
async def history(
    core: Core,
    project: Annotated[str | None, Query(description="Only what is of this project")] = None,
    task: Annotated[
        str | None, Query(description="Only of this task: project/task, or a task of the project")
    ] = None,
    since: Annotated[str, Query(description="A time in ISO 8601, or how long ago: 90s, 15m, 2h, 7d")] = "24h",
    step: Annotated[Step, Query(description="Hours are kept for 30 days")] = "hour",
) -> HistoryPage:
    """Of a task, of a project, or of everything. What ended a moment ago is counted within seconds."""
    of, name = split(project, task)
    items = await core.database.read(reading.points, of, name, moments.since(since), step)
    return HistoryPage(step=step, items=items)


@router.get("/tasks", response_model=TaskPage, summary="Tasks and their figures", responses=refusals(422))
async def tasks(
    core: Core,
    project: Annotated[str | None, Query(description="Only tasks of this project")] = None,
    task: Annotated[str | None, Query(description="Only this task: its id, or project/task")] = None,
    version: Annotated[
        str | None,
        Query(description="As this version declares it, with `task` as project/task; default the current"),
    ] = None,
    window: Annotated[Window, Query(description="How far back the figures reach")] = "24h",
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=reading.MOST_TASKS)] = 50,
) -> TaskPage:
    """Those of each project's current version, in the order of their names."""
    of, name = split(project, task)
    if version is not None and (of is None or name is None):
        raise invalid_field("version", "say which task that version declares: give task=project/task too")
    wanted = reading.Declared(of, name, version, None if cursor is None else _place(cursor), limit)
    items, following = await core.database.read(reading.task_states, wanted, window)
    return TaskPage(items=items, next=None if following is None else "/".join(following))


def split(project: str | None, task: str | None) -> tuple[str | None, str | None]:
    """The project and task that are meant. Raises Invalid where they name two projects."""
    if task is None:
        return project, None
    of, _, name = task.rpartition("/")
    if of and project not in (None, of):
        raise invalid_field("task", f"{task!r} is of another project than project={project}")
    return of or project, name


def _place(cursor: str) -> tuple[str, str]:
    project, slash, task = cursor.partition("/")
    if not slash:
        raise invalid_field("cursor", f"{cursor[:80]!r} is not what an earlier page gave as `next`")
    return project, task
