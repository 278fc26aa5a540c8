"""Runs: the list with its filters, and what is done to many of them."""

from __future__ import annotations

from collections import Counter
from typing import Any, get_args

from starlette.responses import Response

from coordinator.api.inside import Refusal
from coordinator.dashboard import saved
from coordinator.dashboard.pages import Page, View, action, page, to
from coordinator.dashboard.rendering import address, segment
from coordinator.signals import waking
from coordinator.wire import RunStatus, Start

#: What is seldom narrowed by, and for which there is no index.
MORE = ("version", "origin", "start", "longer", "ended", "text")
#: What the list is narrowed by, as its address has it.
FILTERS = ("status", "task", "project", "tag", "since", "parent", "error", *MORE)
_PAGE = 50
#: Problems of one page, and beyond how many runs a person types that they are meant.
_STEP, _TYPED = 100, 100
STATUSES = get_args(RunStatus)
#: What triggers runs.
ORIGINS = ("api", "schedule", "event", "webhook", "run", "replay", "failure")
#: Windows of many runs that a preview looks at until it has found one that fits.
_WINDOWS = 20


def filters(page: Page) -> dict[str, Any]:
    """What the address has of each, empty where it has none. What is wrong with them the API says."""
    found: dict[str, Any] = {name: page.query(name) for name in FILTERS}
    if len(page.queries("status")) > 1:
        found["status"] = ",".join(page.queries("status"))
    return found


def words(given: dict[str, Any]) -> str:
    """A filter as a sentence has it."""
    names = {
        "tag": "with the tag",
        "task": "of the task",
        "project": "of the project",
        "parent": "triggered by the run",
        "version": "of the version",
        "origin": "triggered by",
        "start": "started",
        "longer": "that ran for longer than",
        "ended": "that ended since",
        "text": "with the text",
    }
    parts = []
    if status := given.get("status"):
        parts.append(str(status).replace(",", " or ").replace("_", " "))
    parts += [f"{names.get(name, name)} {value}" for name, value in given.items() if value and name != "status"]
    return ", ".join(parts) or "all"


def command(given: dict[str, Any]) -> str:
    parts = [f"--{name} {value}" for name, value in given.items() if value]
    return " ".join(["samovar runs list", *parts])


@page("/runs")
async def listing(page: Page) -> View:
    return await _list(page, "runs.html")


@page("/dead-letters")
async def dead_letters(page: Page) -> View:
    return await _list(page, "dead_letters.html", dead_letter="true")


async def _list(page: Page, template: str, **more: Any) -> View:
    given = filters(page)
    problem: Refusal | None = None
    found: dict[str, Any] = {"items": [], "next": None}
    try:
        found = await page.api.get("/runs", **given, **more, cursor=page.query("cursor") or None, limit=_PAGE)
    except Refusal as refusal:
        if refusal.status != 422:
            raise
        problem = refusal  # a filter that is wrong is said beside the filter
    path = page.request.url.path
    return View(
        template,
        {
            "items": found["items"],
            "given": given,
            "narrowed": any(given.values()),
            "more": any(given[name] for name in MORE),
            "starts": get_args(Start),
            "origins": ORIGINS,
            "looked_back_to": found.get("looked_back_to"),
            "statuses": STATUSES,
            "problem": problem,
            "first": address(path, **given) if page.query("cursor") else None,
            "next": page.following(found, **given),
            "words": words(given),
            "command": command(given),
            "api": address("/api/v1/runs", **given, **more),
            **await saved.values(page, given),
        },
        status=422 if problem else 200,
    )


# ---------------------------------------------------------------- many at once

_ACTS = {"cancel": "Cancel", "replay": "Replay", "dismiss": "Dismiss"}


def _wanted(page: Page) -> dict[str, Any]:
    """The filter of a form: the runs that were marked, or all that fit what the list showed."""
    marked = page.chosen("run")
    if marked and page.form.get("all") != "yes":
        return {"runs": marked}
    given: dict[str, Any] = {}
    for name in ("task", "project", "parent", "since", "error", *MORE):
        if page.form.get(name):
            given[name] = page.form[name]
    if page.form.get("status"):
        given["status"] = page.form["status"].split(",")
    if page.form.get("tag"):
        given["tags"] = [page.form["tag"]]
    if page.form.get("dead_letter"):
        given["dead_letter"] = True
    return given


@action("/runs/preview")
async def preview(page: Page) -> View | Response:
    """What would be done, to which runs; nothing is."""
    act = page.form.get("act", "")
    if act not in _ACTS:
        raise Refusal(422, "invalid", f"act: {act!r} is none of {', '.join(_ACTS)}", [])
    wanted = _wanted(page)
    body = {"filter": wanted, "dry_run": True, "limit": 1000}
    found = await page.api.ask("POST", f"/runs/{act}", body)
    for _ in range(_WINDOWS):
        if found["items"] or found["next"] is None:
            break
        found = await page.api.ask("POST", f"/runs/{act}", {**body, "cursor": found["next"]})
    items = found["items"]
    return View(
        "bulk_preview.html",
        {
            "act": act,
            "verb": _ACTS[act],
            "fields": _fields(wanted, page),
            "items": items[:20],
            "oldest": items[-1] if items else None,
            "count": len(items),
            "more": found["next"] is not None,
            "tasks": Counter(item["task"] for item in items).most_common(10),
            "statuses": Counter(item["status"] for item in items).most_common(),
            "typed": len(items) > _TYPED or found["next"] is not None,
            "words": meant(wanted),
            "back": page.form.get("back", "/runs"),
        },
    )


@action("/runs/apply")
async def apply(page: Page) -> Response:
    """Asks for it; it begins after a grace, on whose page it may be taken back."""
    act = page.form.get("act", "")
    if act not in _ACTS:
        raise Refusal(422, "invalid", f"act: {act!r} is none of {', '.join(_ACTS)}", [])
    if page.form.get("typed") and page.form.get("word", "").strip() != act:
        raise Refusal(422, "not_confirmed", f"type the word {act!r} to say that all of them are meant", [])
    made = await page.api.ask("POST", "/bulk", {"act": act, "filter": _wanted(page)})
    return to(f"/bulk/{made['id']}")


@page("/bulk")
async def bulks(page: Page) -> View:
    given = {"project": page.query("project")}
    found = await page.api.get("/bulk", **given, cursor=page.query("cursor"), limit=_PAGE)
    items = [{**one, "words": meant(one["filter"])} for one in found["items"]]
    return View("bulks.html", {"items": items, "given": given, "next": page.following(found, **given)})


@page("/bulk/{bulk}")
async def bulk(page: Page) -> View:
    path = f"/bulk/{segment(page.path['bulk'])}"
    one = await page.api.get(path)
    problems: dict[str, Any] = {"items": [], "next": None}
    replays = problems
    if one["problems"]:
        problems = await page.api.get(f"{path}/runs", problems="true", cursor=page.query("cursor"), limit=_STEP)
    if one["act"] == "replay" and one["done"]:
        replays = await page.api.get(f"{path}/runs", problems="false", limit=20)
    return View(
        "bulk.html",
        {
            "one": one,
            "verb": _ACTS[one["act"]],
            "words": meant(one["filter"]),
            "path": path,
            "problems": problems["items"],
            "next": page.following(problems),
            "replays": replays["items"],
        },
        topics=(waking.bulk(one["id"]),),
    )


@action("/bulk/{bulk}/take-back")
async def take_back(page: Page) -> Response:
    return await _told(page, "take-back")


@action("/bulk/{bulk}/begin")
async def begin(page: Page) -> Response:
    return await _told(page, "begin")


async def _told(page: Page, verb: str) -> Response:
    path = f"/bulk/{segment(page.path['bulk'])}"
    await page.api.ask("POST", f"{path}/{verb}")
    return to(path)


def meant(wanted: dict[str, Any]) -> str:
    """Which runs a filter means, in words."""
    given = {name: value for name, value in wanted.items() if value}
    return f"{len(given['runs'])} marked ones" if "runs" in given else words(_shown(given))


def _shown(wanted: dict[str, Any]) -> dict[str, Any]:
    shown = {**wanted}
    if "status" in shown:
        shown["status"] = ",".join(shown["status"])
    if "tags" in shown:
        shown["tag"] = ", ".join(shown.pop("tags"))
    return shown


def _fields(wanted: dict[str, Any], page: Page) -> list[tuple[str, str]]:
    """The hidden fields by which the next form means the same runs."""
    fields = [("back", page.form.get("back", "/runs"))]
    if "runs" in wanted:
        return fields + [("run", run) for run in wanted["runs"]]
    return fields + [(name, "yes" if value is True else str(value)) for name, value in _shown(wanted).items()]
