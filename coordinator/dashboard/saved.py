"""Saved views: a list's address under a name, shown on its page to whoever signs in with the same key."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from coordinator.api.inside import Refusal
from coordinator.dashboard.pages import Page, action, local, to
from coordinator.dashboard.rendering import address


async def values(page: Page, given: dict[str, Any]) -> dict[str, Any]:
    """What saved.html shows of the page that `given` narrows: its views, and the address that could be one."""
    path = page.request.url.path
    found = await page.api.get("/views", page=path)
    here = address(path, **given)
    return {"saved": found["items"], "view": here, "to_save": here != path}


@action("/views/save")
async def save(page: Page) -> Response:
    saved, name = local(page.form.get("address", "")), page.form.get("name", "").strip()
    if not name:
        raise Refusal(422, "invalid", "name: a view needs one", [])
    await page.api.ask("PUT", f"/views/{name}", {"address": saved})
    return to(saved)


@action("/views/remove")
async def remove(page: Page) -> Response:
    await page.api.ask("DELETE", f"/views/{page.form.get('name', '')}")
    return to(page.form.get("back", "/"))
