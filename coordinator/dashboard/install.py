"""Keys, the names of secrets, who did what, and how the coordinator itself does."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from coordinator.dashboard.pages import Page, View, action, page, to
from coordinator.dashboard.rendering import segment

_ROLES = ("trigger", "read", "admin", "runner")


@page("/keys")
async def keys(page: Page) -> View:
    return await _keys(page, None)


@action("/keys")
async def make_key(page: Page) -> View:
    """The new key is in the answer to this form, and is never shown again."""
    body = {"name": page.form.get("name", ""), "role": page.form.get("role", "trigger")}
    made = await page.api.ask("POST", "/keys", {**body, "project": page.form.get("project") or None})
    return await _keys(page, made)


async def _keys(page: Page, made: dict[str, Any] | None) -> View:
    found = await page.api.get("/keys", cursor=page.query("cursor"), limit=100)
    following = page.following(found)
    return View("keys.html", {"items": found["items"], "next": following, "made": made, "roles": _ROLES}, topics=())


@action("/keys/{key}/revoke")
async def revoke(page: Page) -> Response:
    await page.api.ask("DELETE", f"/keys/{segment(page.path['key'])}")
    return to("/keys")


@page("/secrets")
async def secrets(page: Page) -> View:
    given = {"project": page.query("project")}
    found = await page.api.get("/secrets", **given, cursor=page.query("cursor"), limit=100)
    following = page.following(found, **given)
    return View("secrets.html", {"items": found["items"], "given": given, "next": following}, topics=())


@action("/secrets/remove")
async def remove_secret(page: Page) -> Response:
    name = page.form.get("name", "")
    await page.api.ask("DELETE", f"/secrets/{name}", None, {"project": page.form.get("project")})
    return to("/secrets")


@page("/audit")
async def audit(page: Page) -> View:
    given = {name: page.query(name) for name in ("project", "action", "key", "since")}
    found = await page.api.get("/audit", **given, cursor=page.query("cursor"), limit=100)
    following = page.following(found, **given)
    return View("audit.html", {"items": found["items"], "given": given, "next": following})


@page("/system")
async def system(page: Page) -> View:
    return View("system.html", {"found": await page.api.get("/system")}, topics=())
