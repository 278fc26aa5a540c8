"""Batches: many runs of one task at once."""

from __future__ import annotations

from fastapi import Response

from coordinator.api.docs import refusals
from coordinator.api.routers import public
from coordinator.context import Core
from coordinator.runs import batches, views
from coordinator.runs.plans import Plan
from coordinator.storage.values import Stored
from coordinator.wire import BatchAnswer, BatchRequest

router = public("runs")


@router.post(
    "/tasks/{task:path}/runs/batch",
    status_code=201,
    response_model=BatchAnswer,
    summary="Trigger a task many times, all or none",
    responses={
        200: {"model": BatchAnswer, "description": "The runs that this idempotency key made before"},
        **refusals(404, 409, 413, 422, 429),
    },
)
async def trigger(task: str, body: BatchRequest, core: Core) -> Response:
    """Makes a run for each item, at most 1,000, each with options of its own. When this is answered, all are
    durable.

    Where one item is refused nothing is made, and the item is named: `items[3].order_id`.
    """
    planned = await core.database.read(batches.plan, task, body, core.payloads)
    if isinstance(planned, batches.Made):
        made = planned
    else:
        payloads = [
            await core.values.put(item.payload) if item.payload is not None else Stored()
            for item in planned.items
            if isinstance(item, Plan)
        ]
        made = await core.database.write(batches.create, planned, payloads)
    core.waking.notify(*made.topics)
    answer = BatchAnswer(items=[views.run_summary(run) for run in made.runs])
    return Response(
        answer.model_dump_json(exclude={"items": {"__all__": {"payload", "result"}}}),
        status_code=201 if made.created else 200,
        media_type="application/json",
    )
