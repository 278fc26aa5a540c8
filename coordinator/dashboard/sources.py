"""What runs come from besides a trigger: events, webhooks and their deliveries; and tokens that runs wait for."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from coordinator.dashboard.pages import Page, View, action, page, to
from coordinator.dashboard.rendering import address, segment


@page("/events")
async def events(page: Page) -> View:
    given = {"project": page.query("project"), "name": page.query("name")}
    found = await page.api.get("/events", **given, cursor=page.query("cursor"), limit=50)
    following = page.following(found, **given)
    return View("events.html", {"items": found["items"], "given": given, "next": following})


@page("/webhooks")
async def webhooks(page: Page) -> View:
    given = {"project": page.query("project"), "webhook": page.query("webhook"), "status": page.query("status")}
    offered, deliveries = await asyncio.gather(
        page.api.get("/webhooks", project=given["project"], limit=100),
        page.api.get("/deliveries", **given, cursor=page.query("cursor"), limit=50),
    )
    following = page.following(deliveries, **given)
    return View(
        "webhooks.html",
        {"offered": offered["items"], "items": deliveries["items"], "given": given, "next": following},
    )


@page("/deliveries/{delivery}")
async def delivery(page: Page) -> View:
    found = await page.api.get(f"/deliveries/{segment(page.path['delivery'])}")
    return View("delivery.html", {"one": found}, topics=())


@action("/deliveries/{delivery}/replay")
async def replay(page: Page) -> Response:
    path = f"/deliveries/{segment(page.path['delivery'])}"
    await page.api.ask("POST", f"{path}/replay")
    return to(path)


@page("/tokens")
async def tokens(page: Page) -> View:
    found = await page.api.get("/waits", project=page.query("project"), kind="token", after=page.query("after"))
    following = address("/tokens", after=found["next"]) if found["next"] else None
    return View("tokens.html", {"items": found["items"], "next": following})
