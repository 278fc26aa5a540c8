"""Deployments: their builds as they go on, what they change, and which is current."""

from __future__ import annotations

import asyncio
from typing import Any, get_args

from markupsafe import Markup
from starlette.responses import Response

from coordinator.dashboard import rendering
from coordinator.dashboard.pages import Page, View, action, page, to
from coordinator.dashboard.rendering import address, segment
from coordinator.signals import waking
from coordinator.wire import FINAL, RunStatus

_LINES = 5000
#: The statuses of runs that have not ended, and how far those of a version are counted.
_NOT_OVER, _LEFT = [status for status in get_args(RunStatus) if status not in FINAL], 100


@page("/deployments")
async def listing(page: Page) -> View:
    given = {"project": page.query("project")}
    found = await page.api.get("/deployments", **given, cursor=page.query("cursor"), limit=50)
    following = page.following(found, **given)
    return View("deployments.html", {"items": found["items"], "given": given, "next": following})


@page("/deployments/{deployment}")
async def show(page: Page) -> View:
    path = f"/deployments/{segment(page.path['deployment'])}"
    one, log = await asyncio.gather(page.api.get(path), page.api.get(f"{path}/log", limit=_LINES))
    of_it = {"project": one["project"], "version": one["version"], "status": ",".join(_NOT_OVER)}
    before, left = await asyncio.gather(_before(page, one), page.api.get("/runs", **of_it, limit=_LEFT))
    lines = Markup("\n").join(rendering.environment().filters["coloured"](line["message"]) for line in log["items"])
    return View(
        "deployment.html",
        {
            "one": one,
            "path": path,
            "log": lines,
            "cut": len(log["items"]) == _LINES,
            "left": len(left["items"]),
            "more": left["next"] is not None,
            "left_address": address("/runs", **of_it),
            "before": before,
            "changes": changes(before, one) if before else [],
        },
        topics=(waking.build(one["id"]),),
    )


async def _before(page: Page, one: dict[str, Any]) -> dict[str, Any] | None:
    """The version that it is compared with: `?with=`, else the one before it."""
    others = await page.api.get("/deployments", project=one["project"], limit=100)
    ready = [other for other in others["items"] if other["status"] == "ready" and other["id"] != one["id"]]
    wanted = page.query("with")
    chosen = next((other for other in ready if wanted in (other["id"], other["version"])), None)
    if chosen is None:
        chosen = next((other for other in ready if other["created_at"] < one["created_at"]), None)
    return None if chosen is None else await page.api.get(f"/deployments/{segment(chosen['id'])}")


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What differs between the tasks of two versions: task, what, and how."""
    old, new = ({task["id"]: task for task in one["tasks"]} for one in (before, after))
    found = [(name, "gone", "") for name in old if name not in new]
    found += [(name, "new", "") for name in new if name not in old]
    for name in new:
        if name not in old:
            continue
        for field in sorted({*old[name], *new[name]} - {"id"}):
            was, now = old[name].get(field), new[name].get(field)
            if isinstance(was, dict) and isinstance(now, dict):
                inner = [key for key in sorted({*was, *now}) if was.get(key) != now.get(key)]
                found += [(name, f"{field}.{key}", f"{was.get(key)!r} → {now.get(key)!r}") for key in inner]
            elif was != now:
                found.append((name, field, f"{was!r} → {now!r}"))
    return found


@action("/deployments/{deployment}/promote")
async def promote(page: Page) -> Response:
    path = f"/deployments/{segment(page.path['deployment'])}"
    force = "true" if page.form.get("force") == "yes" else None
    await page.api.ask("POST", f"{path}/promote", None, {"force": force})
    return to(path)


@action("/deployments/{deployment}/rebuild")
async def rebuild(page: Page) -> Response:
    path = f"/deployments/{segment(page.path['deployment'])}"
    await page.api.ask("POST", f"{path}/rebuild")
    return to(path)


@action("/projects/{project}/rollback")
async def rollback(page: Page) -> Response:
    made = await page.api.ask("POST", f"/projects/{segment(page.path['project'])}/rollback")
    return to(f"/deployments/{made['id']}")
