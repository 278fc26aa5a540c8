"""Queues: what is in them, and their limits changed live."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from starlette.responses import Response

from coordinator.api.inside import Refusal
from coordinator.dashboard.pages import Page, View, action, page, to
from coordinator.dashboard.rendering import segment

#: Entries of the audit that are looked through for who has changed a queue.
_CHANGES = 100
#: Queues that are shown with all of theirs: those with the most runs.
_ROWS = 100
#: Concurrency keys that a queue's page shows.
_KEYS = 50


@page("/queues")
async def queues(page: Page) -> View:
    project = page.query("project")
    found = await page.api.get("/queues", project=project, oldest="true")
    busy: list[dict[str, Any]] = []
    rest: list[dict[str, Any]] = []
    for q in found["items"]:
        (busy if q["running"] or q["queued"] or q["paused"] or q["concurrency"] else rest).append(q)
    cut = len(busy) > _ROWS
    if cut:
        most = sorted(busy, key=lambda q: -int(q["queued"] + q["running"]))
        rest += most[_ROWS:]
        busy = sorted(most[:_ROWS], key=lambda q: (q["project"], q["name"]))
    empties = {}
    if any(q["queued"] and not q["paused"] for q in busy):
        tasks = await page.api.get("/tasks", project=project, window="1h", limit=200)
        empties = drains(busy, tasks["items"])
    return View(
        "queues.html",
        {
            "busy": busy,
            "rest": rest,
            "cut": cut,
            "project": project,
            "empties": empties,
            "held": {(q["project"], q["name"]): held(q) for q in busy if q["queued"]},
            "changes": await _changes(page, busy),
        },
    )


@page("/queues/{project}/{queue:path}")
async def queue(page: Page) -> View:
    """One queue, with its keys and those of its runs that are in line for longest."""
    project, name = page.path["project"], page.path["queue"]
    found, keys = await asyncio.gather(
        page.api.get("/queues", project=project, oldest="true"),
        page.api.get(f"/queues/{name}/keys", project=project, limit=_KEYS),
    )
    one = next(q for q in found["items"] if q["name"] == name)
    return View("queue.html", {"one": one, "keys": keys["items"], "more": keys["more"], "held": held(one)})


def held(queue: dict[str, Any]) -> str:
    """What of the queue itself keeps its runs in line, in words; empty where it is something else."""
    if queue["paused"]:
        return "the queue is paused"
    if queue["concurrency"] is not None and queue["running"] >= queue["concurrency"]:
        return f"{queue['running']} of {queue['concurrency']} run at once"
    return f"at most {queue['rate']}" if queue["rate"] else ""


async def _changes(page: Page, queues: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """The last live change of each, as far as the audit's latest entries go; none for who may not read it."""
    if not any(q["overridden"] or q["paused"] for q in queues):
        return {}
    try:
        found = await page.api.get("/audit", action="queue.change", limit=_CHANGES)
    except Refusal:
        return {}
    newest_last = reversed(found["items"])
    return {(entry["project"] or "", entry["target"]): entry for entry in newest_last}


def drains(queues: list[dict[str, Any]], tasks: list[dict[str, Any]]) -> dict[tuple[str, str], float]:
    """In how many milliseconds each queue would be empty if nothing were added and runs went on ending as they did
    in the last hour; by project and queue, without those of which none has ended.
    """
    pace: Counter[tuple[str, str]] = Counter()
    for task in tasks:
        queue = (task["options"].get("queue") or {}).get("name") or task["task"]
        pace[task["project"], queue] += task["figures"]["per_hour"]
    return {
        key: 3_600_000 * q["queued"] / pace[key]
        for q in queues
        if q["queued"] and not q["paused"] and pace[key := (q["project"], q["name"])] > 0
    }


@action("/queues/change")
async def change(page: Page) -> Response:
    given = page.form
    body: dict[str, Any] = {}
    if "paused" in given:
        body["paused"] = given["paused"] == "yes"
    if "concurrency" in given:
        text = given["concurrency"].strip()
        if text and not (text.isascii() and text.isdecimal() and len(text) < 9):
            raise Refusal(422, "invalid", f"concurrency: {text!r} is no number: give 1 or more, or nothing", [])
        body["concurrency"] = int(text) if text else None
    await page.api.ask("PATCH", f"/queues/{given.get('queue', '')}", body, {"project": given.get("project")})
    return to(given.get("back") or "/queues")


@page("/schedules")
async def schedules(page: Page) -> View:
    found = await page.api.get("/schedules", project=page.query("project"), cursor=page.query("cursor"), limit=100)
    return View("schedules.html", {"items": found["items"], "next": found["next"]})


@page("/schedules/{schedule}")
async def schedule(page: Page) -> View:
    path = f"/schedules/{segment(page.path['schedule'])}"
    found = await page.api.get(path)
    coming = await page.api.get(f"{path}/next", count=5)
    return View("schedule.html", {"one": found, "path": path, "coming": coming["items"]})


@action("/schedules/{schedule}/change")
async def change_schedule(page: Page) -> Response:
    path = f"/schedules/{segment(page.path['schedule'])}"
    await page.api.ask("PATCH", path, {"paused": page.form.get("paused") == "yes"})
    return to(page.form.get("back") or path)


@action("/schedules/{schedule}/run")
async def run_schedule(page: Page) -> Response:
    """Its task, with the schedule's payload, at once: it makes no tick of it."""
    found = await page.api.get(f"/schedules/{segment(page.path['schedule'])}")
    made = await page.api.ask(
        "POST",
        f"/tasks/{found['project']}/{found['task']}/runs",
        {"payload": found["payload"], "tags": ["by-hand"]},
    )
    return to(f"/runs/{made['id']}")
