"""Errors in groups: what fails, since when, in which versions; and the replay of exactly one of them."""

from __future__ import annotations

from markupsafe import Markup
from starlette.responses import Response

from coordinator.dashboard import drawing, saved
from coordinator.dashboard.pages import Page, View, action, page, to
from coordinator.dashboard.rendering import segment

_FEW = 20


def spark(counts: list[int]) -> Markup:
    """How often in each of the last 24 hours, the current one last."""
    return drawing.spark(counts, f"{sum(counts)} in the last 24 hours")


@page("/errors")
async def listing(page: Page) -> View:
    given = {name: page.query(name) for name in ("status", "project", "task", "since")}
    found = await page.api.get("/errors", **given, cursor=page.query("cursor"), limit=50)
    following = page.following(found, **given)
    values = {"items": found["items"], "given": given, "next": following, "spark": spark}
    return View("errors.html", {**values, **await saved.values(page, given)})


@page("/errors/{project}/{fingerprint}")
async def show(page: Page) -> View:
    path = _path(page)
    one = await page.api.get(path)
    runs = await page.api.get("/runs", project=one["project"], error=one["fingerprint"], limit=_FEW)
    return View(
        "error.html", {"one": one, "path": path, "runs": runs["items"], "more": runs["next"], "spark": spark}
    )


@action("/errors/{project}/{fingerprint}/resolve")
async def resolve(page: Page) -> Response:
    await page.api.ask("POST", f"{_path(page)}/resolve", {"version": page.form.get("version") or None})
    return to(_path(page))


@action("/errors/{project}/{fingerprint}/mute")
async def mute(page: Page) -> Response:
    await page.api.ask("POST", f"{_path(page)}/mute", {"until": page.form.get("until") or "1d"})
    return to(_path(page))


@action("/errors/{project}/{fingerprint}/reopen")
async def reopen(page: Page) -> Response:
    await page.api.ask("POST", f"{_path(page)}/reopen")
    return to(_path(page))


def _path(page: Page) -> str:
    return f"/errors/{segment(page.path['project'])}/{segment(page.path['fingerprint'])}"
