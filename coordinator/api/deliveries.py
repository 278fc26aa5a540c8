"""Webhooks as their owner sees them: the addresses, what came in, and replaying it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import Query, Request

from coordinator.api.docs import refusals
from coordinator.api.routers import public
from coordinator.context import Coordinator, Core
from coordinator.runs import views
from coordinator.sources import deliveries, webhooks
from coordinator.sources.deliveries import Filter
from coordinator.storage.values import decode
from coordinator.wire import Delivery, DeliveryPage, Webhook, WebhookPage

router = public("webhooks")


@router.get("/webhooks", response_model=WebhookPage, summary="List the webhooks of the current deployments")
async def offered(
    request: Request,
    core: Core,
    project: str | None = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> WebhookPage:
    found, following = await core.database.read(webhooks.listing, project, cursor, limit)
    base = (core.settings.public_url or str(request.base_url)).rstrip("/")
    items = []
    for row, secret_set in found:
        refusal = core.refusals.get((row.project, row.path))
        items.append(
            Webhook(
                project=row.project,
                path=row.path,
                url=f"{base}/hooks/{quote(row.project)}/{quote(row.path)}",
                task=row.task,
                signed=row.secret is not None,
                scheme=row.scheme,
                secret=row.secret,
                secret_set=secret_set,
                refused=refusal.count if refusal else 0,
                refused_at=views.iso(refusal.at) if refusal else None,
                refused_reason=refusal.reason if refusal else None,
                challenge=None if row.challenge is None else decode(row.challenge)["name"],
            )
        )
    return WebhookPage(items=items, next=following)


@router.get("/deliveries", response_model=DeliveryPage, summary="List deliveries, newest first")
async def listing(
    core: Core,
    status: Literal["delivered", "dead"] | None = None,
    project: str | None = None,
    webhook: Annotated[str | None, Query(description="The path of its webhook")] = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> DeliveryPage:
    wanted = Filter(project, webhook, status, cursor, limit)
    found, following = await core.database.read(deliveries.listing, wanted)
    return DeliveryPage(items=[views.delivery(row) for row in found], next=following)


@router.get(
    "/deliveries/{delivery}",
    response_model=Delivery,
    summary="A delivery, with its headers and body",
    responses=refusals(404),
)
async def get(delivery: str, core: Core) -> Delivery:
    row = await core.database.read(deliveries.get, delivery)
    return views.delivery(row, await _body(core, row.body, row.body_blob))


@router.post(
    "/deliveries/{delivery}/replay",
    status_code=201,
    response_model=Delivery,
    summary="Make a new run of a delivery",
    responses=refusals(404, 409, 422, 429),
)
async def replay(delivery: str, core: Core) -> Delivery:
    """On the current deployment; one that was dead is delivered then. Answers the delivery with its new run."""
    row = await core.database.read(deliveries.get, delivery)
    body = await _body(core, row.body, row.body_blob)
    planned = await core.database.read(deliveries.prepare_replay, delivery, body, core.payloads)
    assert planned.payload is not None  # it is made of the delivery
    stored = await core.values.put(planned.payload)
    accepted = await core.database.write(deliveries.replay, delivery, planned, stored)
    core.waking.notify(*accepted.topics)
    return views.delivery(accepted.row)


async def _body(core: Coordinator, data: bytes | None, blob: str | None) -> bytes:
    if blob is not None:
        return await asyncio.to_thread(core.blobs.get, blob)
    return bytes(data or b"")
