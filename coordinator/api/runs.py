"""Runs: trigger, get, list, wait, cancel, replay."""

from __future__ import annotations

import re
from typing import Annotated, Any, get_args

from fastapi import Query, Request, Response
from sqlalchemy import Connection, Row

from coordinator.api import moments
from coordinator.api.direct import Read, Way
from coordinator.api.direct import Route as DirectRoute
from coordinator.api.docs import refusals
from coordinator.api.polling import poll
from coordinator.api.routers import public
from coordinator.context import Coordinator, Core
from coordinator.foundation.errors import invalid_field
from coordinator.foundation.times import iso
from coordinator.runs import bumping, cancelling, failures, idempotency, plans, runs, triggers, views
from coordinator.runs.filters import Filter
from coordinator.runs.plans import Plan
from coordinator.runs.triggers import Made
from coordinator.signals import waking
from coordinator.storage.values import Stored
from coordinator.tasks.payloads import Payloads
from coordinator.wire import (
    API,
    FINAL,
    Checked,
    Duration,
    ReplayRequest,
    Run,
    RunPage,
    RunStatus,
    Start,
    TriggerRequest,
)

router = public("runs")

#: Bytes of a trigger that is checked and stored in one transaction. Its payload fits into the run's row.
_SMALL = 16 * 1024


@router.post(
    "/tasks/{task:path}/runs",
    status_code=201,
    response_model=Run,
    summary="Trigger a task",
    responses={
        200: {"model": Run, "description": "The run that this idempotency key or debounce key made before"},
        **refusals(404, 409, 413, 422, 429),
    },
)
async def trigger(task: str, body: TriggerRequest, core: Core) -> Response:
    """Makes a run of `task` (or `project/task`). When this is answered, the run is durable.

    The payload is checked against the task's JSON Schema; every wrong field is named.
    """
    planned = await core.database.read(plans.plan, task, body, core.payloads)
    made = await create(core, planned) if isinstance(planned, Plan) else Made(planned, False, set())
    return await _answer(core, made)


@router.post(
    "/tasks/{task:path}/runs/check",
    response_model=Checked,
    summary="Check a trigger, and make nothing",
    responses=refusals(404, 409, 413, 422),
)
async def check(task: str, body: TriggerRequest, core: Core) -> Checked:
    """Refused as the trigger would be, with every wrong field named."""
    planned = await core.database.read(plans.plan, task, body, core.payloads)
    if isinstance(planned, Plan):
        return Checked(version=planned.target.version, memory=planned.memory)
    return Checked(version=planned.version, memory=planned.memory, run=planned.id)


async def trigger_small(core: Coordinator, task: str, body: TriggerRequest) -> Response:
    """`trigger` there and back once: to check what is small keeps nobody from writing for long."""
    made = await core.database.write(_plan_and_create, task, body, core.payloads)
    core.waking.notify(*made.topics)
    return await _answer(core, made)


async def _answer(core: Coordinator, made: Made) -> Response:
    run = await views.run(made.run, core.values)
    return Response(run.model_dump_json(), 201 if made.created else 200, media_type="application/json")


@router.post(
    "/runs/{run}/replay",
    status_code=201,
    response_model=Run,
    summary="Replay a run as a new one",
    responses=refusals(404, 413, 422, 429),
)
async def replay(run: str, body: ReplayRequest, core: Core) -> Run:
    """A new run of the same task and payload, on the current deployment unless `version` says otherwise."""
    planned = await core.database.read(plans.plan_replay, run, body, core.payloads)
    made = await create(core, planned)
    return await views.run(made.run, core.values)


@router.get("/runs", response_model=RunPage, summary="List runs, newest first", responses=refusals(422))
async def listing(
    core: Core,
    status: Annotated[list[str] | None, Query(description="May be given several times, or with commas")] = None,
    task: str | None = None,
    project: str | None = None,
    parent: Annotated[str | None, Query(description="Only runs that this run has triggered")] = None,
    tag: Annotated[list[str] | None, Query(description="Several: all of them", max_length=32)] = None,
    dead_letter: Annotated[
        bool, Query(description="Only those that failed for good, and nobody saw to yet")
    ] = False,
    error: Annotated[
        str | None, Query(description="Only those that ended with this error: its fingerprint")
    ] = None,
    since: Annotated[str | None, Query(description="A time in ISO 8601, or how long ago: 90s, 15m, 2h, 7d")] = None,
    version: Annotated[str | None, Query(description="Only those of this version of their project")] = None,
    origin: Annotated[
        str | None, Query(description="Only those triggered by this: api, schedule, webhook, event, run, replay …")
    ] = None,
    start: Annotated[Start | None, Query(description="How the latest attempt was started")] = None,
    longer: Annotated[
        Duration | None, Query(description="Only those that ran for longer than this, or do by now: 30s, 5m")
    ] = None,
    ended: Annotated[str | None, Query(description="Only those that ended since then, as `since`")] = None,
    text: Annotated[
        str | None, Query(description="Only those with this in id, keys or error", min_length=1, max_length=256)
    ] = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """Items leave out `payload` and `result`; get the run for those. With `version`, `origin`, `start`, `longer`,
    `ended` or `text` a page looks at 5,000 runs at most: `looked_back_to` says where it stopped, `next` goes on.
    """
    wanted = Filter(
        statuses=_statuses(status or []),
        task=task,
        project=project,
        parent=parent,
        tags=tuple(tag or ()),
        since=None if since is None else moments.since(since),
        cursor=cursor,
        limit=limit,
        dead_letter=dead_letter,
        error=error,
        version=version,
        origin=origin,
        start=start,
        longer=longer,
        ended=None if ended is None else moments.since(ended, "ended"),
        text=text,
    )
    found = await core.database.read(runs.search, wanted)
    page = RunPage(
        items=[views.run_summary(row) for row in found.rows],
        next=found.following,
        looked_back_to=iso(found.looked_back_to),
    )
    left_out: dict[str, Any] = {"items": {"__all__": {"payload", "result"}}}
    if page.looked_back_to is None:  # as other lists are
        left_out["looked_back_to"] = True
    return Response(page.model_dump_json(exclude=left_out), media_type="application/json")


@router.get("/runs/{run}", response_model=Run, summary="A run", responses=refusals(404))
async def get(run: str, core: Core) -> Run:
    return await views.run(await core.database.read(runs.get, run), core.values)


@router.get("/runs/{run}/wait", response_model=Run, summary="Wait for a run's end", responses=refusals(404))
async def wait(
    run: str, request: Request, core: Core, timeout: Annotated[float, Query(ge=0, allow_inf_nan=False)] = 30.0
) -> Run:
    """Answers as soon as the run has ended, and after `timeout` seconds (60 at most) in any case."""
    return await _when_ended(core, run, timeout, request)


async def _when_ended(core: Coordinator, run: str, timeout: float, request: Request) -> Run:
    async def look() -> Row[Any] | None:
        row = await core.database.read(runs.get, run)
        return row if row.status in FINAL else None

    row = await poll(request, core, [waking.run(run)], timeout, look)
    if row is None:
        row = await core.database.read(runs.get, run)
    return await views.run(row, core.values)


@router.post("/runs/{run}/cancel", response_model=Run, summary="Cancel a run", responses=refusals(404))
async def cancel(run: str, core: Core) -> Run:
    """A run that has not started ends at once; one that runs is asked to end; one that has ended stays so."""
    canceled = await core.database.write(cancelling.cancel, run)
    core.waking.notify(*canceled.topics)
    return await views.run(canceled.run, core.values)


@router.post(
    "/runs/{run}/bump",
    response_model=Run,
    summary="Put a queued run at the front of its queue",
    responses=refusals(404, 409),
)
async def bump(run: str, core: Core) -> Run:
    """It starts next, whatever its priority, as soon as its queue's limits and a host's memory let it."""
    row = await core.database.write(bumping.bump, run)
    core.waking.notify(waking.CLAIMS, waking.run(run))
    return await views.run(row, core.values)


@router.post(
    "/runs/{run}/release-key",
    response_model=Run,
    summary="Free a run's idempotency key",
    responses=refusals(404, 409),
)
async def release_key(run: str, core: Core) -> Run:
    """The next trigger with this key makes a new run. The run itself stays what it is."""
    return await views.run(await core.database.write(idempotency.release, run), core.values)


@router.post(
    "/runs/{run}/dismiss",
    response_model=Run,
    summary="Take a run off the dead-letter list",
    responses=refusals(404),
)
async def dismiss(run: str, core: Core) -> Run:
    """Somebody has seen to a failed run: it leaves the list, and stays what it is."""
    return await views.run(await core.database.write(failures.dismiss, run), core.values)


def _plan_and_create(conn: Connection, now: float, task: str, body: TriggerRequest, payloads: Payloads) -> Made:
    planned = plans.plan(conn, now, task, body, payloads)
    if not isinstance(planned, Plan):
        return Made(planned, False, set())
    assert planned.payload is not None  # only a replay takes an earlier run's
    return triggers.create(conn, now, planned, Stored(planned.payload.text, None, planned.payload.size))


async def create(core: Coordinator, planned: Plan) -> Made:
    """The planned run, with its payload stored first and its claims woken."""
    if planned.payload is not None:
        stored = await core.values.put(planned.payload)
    else:
        stored = planned.stored or Stored()
    made = await core.database.write(triggers.create, planned, stored)
    core.waking.notify(*made.topics)
    return made


async def _wait_directly(core: Coordinator, run: str, query: re.Match[bytes], request: Request) -> Run:
    return await _when_ended(core, run, float(query[1] or 30), request)


#: Small triggers go the short way, and what waits for a run.
TRIGGERS = Way(f"{API}/tasks/", {"runs": DirectRoute(TriggerRequest, trigger_small)}, most=_SMALL)
_TIMEOUT = re.compile(rb"(?:timeout=(\d{1,5}(?:\.\d{1,9})?))?")
WAITS = Way(f"{API}/runs/", {}, reads={"wait": Read(_TIMEOUT, _wait_directly)})


def _statuses(given: list[str]) -> tuple[str, ...]:
    found = tuple(word.strip() for item in given for word in item.split(",") if word.strip())
    known = get_args(RunStatus)
    for word in found:
        if word not in known:
            raise invalid_field("status", f"{word!r} is none of {', '.join(known)}")
    return tuple(dict.fromkeys(found))
