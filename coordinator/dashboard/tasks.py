"""Tasks: what is deployed, how it does, and a form from its schema that triggers one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from markupsafe import Markup
from starlette.responses import Response

from coordinator.api.inside import Refusal
from coordinator.dashboard import written
from coordinator.dashboard.drawing import Part, columns
from coordinator.dashboard.formats import parse
from coordinator.dashboard.pages import Page, View, action, page, to

_FEW = 10
_SPANS = {"1h": timedelta(hours=1), "24h": timedelta(hours=24), "7d": timedelta(days=7), "30d": timedelta(days=30)}
WINDOWS = tuple(_SPANS)


@page("/tasks")
async def listing(page: Page) -> View:
    given = {"project": page.query("project"), "window": page.query("window") or "24h"}
    found = await page.api.get("/tasks", **given, cursor=page.query("cursor"), limit=50)
    following = page.following(found, **given)
    return View("tasks.html", {"items": found["items"], "given": given, "windows": WINDOWS, "next": following})


def ends(
    points: list[dict[str, Any]],
    window: str,
    now: datetime | None = None,
    deployed: Sequence[tuple[str, str]] = (),
) -> Markup:
    """What ended in each hour of the window, or each day of a long one: failed ones stand on the others.

    `deployed`: versions, and when they were made.
    """
    days = window in ("7d", "30d")
    step, form = (timedelta(days=1), "%Y-%m-%d") if days else (timedelta(hours=1), "%Y-%m-%d %H:00")
    known = {parse(point["at"]).strftime(form): point for point in points}
    at = (now or datetime.now(UTC)) - _SPANS[window]
    rows = []
    while at <= (now or datetime.now(UTC)):
        name = at.strftime(form)
        point = known.get(name, {"runs": 0, "failed": 0})
        fine, bad = point["runs"] - point["failed"], point["failed"]
        parts = [Part("ended", fine, "good", str(fine)), Part("failed", bad, "bad", str(bad))]
        rows.append((name, [part for part in parts if part.value]))
        at += step
    marks: dict[str, str] = {}
    for version, made in deployed:
        name = parse(made).strftime(form)
        marks[name] = f"{marks[name]}, {version}" if name in marks else f"deployed: {version}"
    return columns(rows, f"runs that ended, by {'day' if days else 'hour'}, of the last {window}", marks=marks)


#: Versions of a project that are marked where its runs are drawn.
_MARKS = 20


@page("/tasks/{project}/{task}")
async def show(page: Page) -> View:
    return await _task(page, {}, None)


async def _task(page: Page, given: dict[str, str], problem: Refusal | None) -> View:
    project, name = page.path["project"], page.path["task"]
    whole = f"{project}/{name}"
    window = page.query("window") if page.query("window") in WINDOWS else "24h"
    step = "day" if window in ("7d", "30d") else "hour"
    known, lately, past, errors, versions = await asyncio.gather(
        page.api.get("/tasks", task=whole, window=window),
        page.api.get("/runs", task=whole, limit=_FEW),
        page.api.get("/history", task=whole, since=window, step=step),
        page.api.get("/errors", project=project, task=name, status="open", limit=5),
        page.api.get("/deployments", project=project, limit=_MARKS),
    )
    deployed = [(one["version"], one["created_at"]) for one in versions["items"] if one["status"] == "ready"]
    task = next(iter(known["items"]), None)
    if task is None and not lately["items"]:
        raise Refusal(404, "unknown_task", f"there is no task {project}/{name}", [])
    schema = (task or {}).get("parameters") or {}
    figures = (task or {}).get("figures")
    return View(
        "task.html",
        {
            "project": project,
            "name": name,
            "task": task,
            "figures": figures,
            "window": window,
            "windows": WINDOWS,
            "past": ends(past["items"], window, deployed=deployed),
            "errors": errors["items"],
            "fields": fields(schema, given),
            "given": given,
            "problem": problem,
            "lately": lately["items"],
            "example": json.dumps(example(schema), indent=2, ensure_ascii=False),
        },
        status=problem.status if problem else 200,
    )


def fields(schema: dict[str, Any], given: dict[str, str]) -> list[dict[str, Any]]:
    """Of a task's payload: a field of the form for each argument that is a text, a number or yes or no.

    What is deeper is written as JSON.
    """
    found = []
    required = schema.get("required") or []
    for name, one in (schema.get("properties") or {}).items():
        kind = one.get("type")
        shape = "json"
        if isinstance(one.get("enum"), list) and all(isinstance(v, str) for v in one["enum"]):
            shape = "choice"
        elif kind in ("string", "integer", "number", "boolean"):
            shape = str(kind)
        default = one.get("default")
        text = default if isinstance(default, str) else "" if default is None else json.dumps(default)
        found.append(
            {
                "name": name,
                "shape": shape,
                "required": name in required,
                "choices": one.get("enum") if shape == "choice" else [],
                "value": given.get(f"arg.{name}", text),
                "words": one.get("description") or one.get("title") or "",
            }
        )
    return found


def example(schema: dict[str, Any]) -> dict[str, Any]:
    """A payload to begin with: what the schema wants, with its defaults."""
    blank: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False, "array": [], "object": {}}
    required = schema.get("required") or []
    return {
        name: one.get("default", blank.get(str(one.get("type"))))
        for name, one in (schema.get("properties") or {}).items()
        if name in required or "default" in one
    }


@action("/tasks/{project}/{task}/trigger")
async def trigger(page: Page) -> View | Response:
    project, name = page.path["project"], page.path["task"]
    given = page.form
    try:
        body: dict[str, Any] = {"payload": _payload(page)}
        if given.get("tags", "").strip():
            body["tags"] = [tag.strip() for tag in given["tags"].split(",") if tag.strip()]
        if given.get("delay", "").strip():
            body["delay"] = given["delay"].strip()
        made = await page.api.ask("POST", f"/tasks/{project}/{name}/runs", body)
    except Refusal as refusal:
        if refusal.status not in (404, 409, 413, 422, 429):
            raise
        return await _task(page, given, refusal)
    return to(f"/runs/{made['id']}")


@action("/tasks/{project}/{task}/check")
async def check(page: Page) -> View:
    """What is wrong with the form as it is filled in now; nothing is made of it."""
    project, name = page.path["project"], page.path["task"]
    problem = None
    try:
        await page.api.ask("POST", f"/tasks/{project}/{name}/runs/check", {"payload": _payload(page)})
    except Refusal as refusal:
        problem = refusal
    return View("problems.html", {"problem": problem})


def _payload(page: Page) -> dict[str, Any]:
    """Of the form: its JSON where that was written in, else the fields that were filled in."""
    if text := page.form.get("payload", "").strip():
        return written.payload(text)
    payload: dict[str, Any] = {}
    for field, value in page.fields:
        kind, _, name = field.partition(".")
        shape = page.form.get(f"shape.{name}")
        if kind != "arg" or (value == "" and shape != "string"):
            continue
        if value == "" and f"sent.{name}" not in page.form:
            continue
        payload[name] = value if shape in ("string", "choice") else written.value(name, value)
    return payload
