"""The first page: what goes on now."""

from __future__ import annotations

import asyncio

from coordinator.dashboard.line import held
from coordinator.dashboard.pages import Page, View, page
from coordinator.dashboard.rendering import address
from coordinator.dashboard.tasks import ends

_FEW = 8
#: Dead letters that are counted here.
_DEAD = 20


@page("/")
async def overview(page: Page) -> View:
    queues, running, failed, dead, pool, deployed, past = await asyncio.gather(
        page.api.get("/queues", oldest="true"),
        page.api.get("/runs", status="running", limit=_FEW),
        page.api.get("/runs", status="failed,timed_out,expired", limit=_FEW),
        page.api.get("/runs", dead_letter="true", limit=_DEAD),
        page.api.get("/pool", left=0),
        page.api.get("/deployments", limit=5),
        page.api.get("/history", since="24h", step="hour"),
    )
    line = [queue for queue in queues["items"] if queue["oldest"]]
    first = min(line, key=lambda queue: str(queue["oldest"]["created_at"]), default=None)
    return View(
        "overview.html",
        {
            "running": sum(queue["running"] for queue in queues["items"]),
            "queued": sum(queue["queued"] for queue in queues["items"]),
            "paused": [queue["name"] for queue in queues["items"] if queue["paused"]],
            "oldest": first and first["oldest"],
            "held": first and held(first),
            "working": running["items"],
            "failed": failed["items"],
            "dead": dead,
            "hosts": pool["items"],
            "hour": pool["hour"],
            "past": ends(past["items"], "24h"),
            "deployments": deployed["items"],
            "failed_address": address("/runs", status="failed,timed_out,expired"),
        },
    )
