"""One run: what happened, why it doesn't, where its time and memory went; and what can be done about it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.responses import Response

from coordinator.api.inside import Refusal
from coordinator.dashboard import declared, hunger, waterfall, written
from coordinator.dashboard.differing import MOST, changes
from coordinator.dashboard.drawing import Part, bar, curve
from coordinator.dashboard.formats import milliseconds, parse
from coordinator.dashboard.pages import Page, View, action, page, to
from coordinator.dashboard.rendering import address, segment
from coordinator.signals import waking
from coordinator.wire import FINAL

#: In the order in which they come, with their colours.
PHASES = (
    ("queued_ms", "queued", "queued"),
    ("placed_ms", "placed", "placed"),
    ("started_ms", "container", "started"),
    ("imported_ms", "import", "imported"),
    ("handed_over_ms", "handed over", "handed"),
    ("ran_ms", "ran", "ran"),
    ("reported_ms", "reported", "reported"),
)
#: Checkpoints of one page; and of those, of waits and of runs that it has triggered, how many on the run's own.
_CHECKPOINTS, _STEPS, _CHILDREN = 100, 100, 50


def phases(values: dict[str, Any]) -> Any:
    """Where the time of an attempt went, as a bar; empty where nothing of it is known."""
    return _times(values, PHASES, "where the time of the attempt went")


def curve_of(usage: dict[str, Any]) -> Any:
    """The memory of an attempt over its time; empty where its container told none."""
    told = usage.get("curve")
    if not told:
        return ""
    label = f"memory over {milliseconds(told['interval_ms'] * len(told['points']))}"
    return curve(told["points"], usage["memory_limit_bytes"], label)


def ledger(values: dict[str, Any], queued_by: list[dict[str, Any]]) -> Any:
    """Where the time of the run went, all of it; what it stood in line for by what held it there."""
    fields: list[tuple[str, str, str]] = []
    for field, name, kind in waterfall.LEDGER:
        if field != "queued_ms" or not queued_by:
            fields.append((field, name, kind))
            continue
        for part in queued_by:
            held = waterfall.HELD.get(part["reason"])
            fields.append((f"queued by {part['reason']}", f"{name}: {held}" if held else name, kind))
    values = {**values, **{f"queued by {part['reason']}": part["ms"] for part in queued_by}}
    return _times(values, tuple(fields), f"where the run's {milliseconds(values['total_ms'])} went")


def _times(values: dict[str, Any], fields: tuple[tuple[str, str, str], ...], label: str) -> Any:
    """`fields`: of `values` in milliseconds, each with its name and its colour."""
    known = [(values.get(field), name, kind) for field, name, kind in fields]
    return bar([Part(name, took, kind, milliseconds(took)) for took, name, kind in known if took], label)


@page("/runs/{run}")
async def show(page: Page) -> View:
    path = f"/runs/{segment(page.path['run'])}"
    run = await page.api.get(path)
    tried = run["attempts"] > 0
    attempts, why, files, trace, parameters = await asyncio.gather(
        page.api.get(f"{path}/attempts") if tried else _nothing(),
        _why(page, run),
        page.api.get(f"{path}/files") if tried else _nothing(),
        page.api.get(f"{path}/trace"),
        declared.parameters(page, run),
    )
    spans = trace["spans"]
    steps = [span for span in spans if span["kind"] in ("checkpoint", "wait")]
    equal = page.query("scale") == "equal"
    scaled = {"scale": "equal" if equal else ""}
    zoom = next((span for span in spans if span["id"] == page.query("zoom")), None)
    drawn = waterfall.within(spans, zoom) if zoom else spans
    return View(
        "run.html",
        {
            "run": run,
            "path": path,
            "parameters": parameters,
            "attempts": attempts["items"],
            "steps": steps[-_STEPS:],
            "more_steps": len(steps) > _STEPS
            or bool(trace["left_out"]["checkpoints"] + trace["left_out"]["waits"]),
            "died": await hunger.card(page, run, attempts["items"], spans),
            "children": [span for span in spans if span["kind"] == "child"][-_CHILDREN:],
            "more_children": sum(s["kind"] == "child" for s in spans) > _CHILDREN,
            "why": why,
            "files": files["items"],
            "phases": phases,
            "curve_of": curve_of,
            "trace": trace,
            "fall": waterfall.draw(drawn, equal=equal, enlarged=lambda span: address(path, **scaled, zoom=span)),
            "zoom": zoom,
            "whole": address(path, **scaled),
            "other_scale": address(path, scale="" if equal else "equal", zoom=zoom["id"] if zoom else ""),
            "ledger": ledger(trace["ledger"], trace["queued_by"]),
            "equal": equal,
            "over": run["status"] in FINAL,
            "remedy": _remedy(run, why),
        },
        topics=(waking.run(run["id"]), waking.step(run["id"])),
    )


async def _nothing() -> dict[str, Any]:
    return {"items": []}


async def _why(page: Page, run: dict[str, Any]) -> dict[str, Any] | None:
    if run["status"] in FINAL or run["status"] == "running":
        return None
    return await page.api.get(f"/runs/{segment(run['id'])}/why")


def _remedy(run: dict[str, Any], why: dict[str, Any] | None) -> dict[str, Any] | None:
    """The one button that helps, where one does."""
    if why is None:
        return None
    queue = {"project": run["project"], "queue": why["queue"], "back": f"/runs/{run['id']}"}
    if why["reason"] == "paused":
        return {
            "path": "/queues/change",
            "words": "Resume the queue",
            "fields": {**queue, "paused": "no"},
            "asks": ("PATCH", f"/queues/{why['queue']}"),
        }
    if why["reason"] in ("turn", "queue_limit", "key_limit") and run["status"] == "queued":
        return {
            "path": f"/runs/{segment(run['id'])}/bump",
            "words": "Put it at the front of its queue",
            "fields": {},
            "asks": ("POST", f"/runs/{run['id']}/bump"),
        }
    return None


@page("/runs/{run}/checkpoints")
async def checkpoints(page: Page) -> View:
    path = f"/runs/{segment(page.path['run'])}"
    run = await page.api.get(path)
    place = {"after": page.query("after") or None, "limit": _CHECKPOINTS}
    found = await page.api.get(f"{path}/checkpoints", **place)
    against, problem, others = page.query("against"), None, {}
    attempt = page.query("attempt")
    if against:
        try:
            others = await _values_of(page, against)
        except Refusal as refusal:
            if refusal.status not in (404, 422):
                raise
            problem, against = refusal, ""
    following = None
    if found["next"]:
        following = address(f"{path}/checkpoints", after=found["next"], against=against, attempt=attempt)
    return View(
        "checkpoints.html",
        {
            "run": run,
            "path": path,
            "items": [one for one in found["items"] if not attempt or str(one["attempt"]) == attempt],
            "attempt": attempt,
            "next": following,
            "against": against,
            "problem": problem,
            "others": others,
            "changes": changes,
            "most": MOST,
        },
        topics=(waking.run(run["id"]), waking.step(run["id"])),
    )


async def _values_of(page: Page, run: str) -> dict[str, Any]:
    """By key what another run has stored, as far as one page goes: those that this run's are held against."""
    found = await page.api.get(f"/runs/{segment(run)}/checkpoints", limit=500)
    return {item["key"]: item for item in found["items"]}


# ---------------------------------------------------------------- replay


@page("/runs/{run}/replay")
async def replay_form(page: Page) -> View:
    path = f"/runs/{segment(page.path['run'])}"
    run = await page.api.get(path)
    text = json.dumps(run["payload"], indent=2, ensure_ascii=False)
    given = {
        "payload": text,
        "from_checkpoint": page.query("from"),
        "version": "",
        "memory": page.query("memory"),
    }
    return await _replay_view(page, run, given, None)


@action("/runs/{run}/replay")
async def replay(page: Page) -> View | Response:
    path = f"/runs/{segment(page.path['run'])}"
    given = {"payload": "", "from_checkpoint": "", "version": "", "memory": "", **page.form}
    try:
        body: dict[str, Any] = {}
        if given.get("version"):
            body["version"] = given["version"]
        if given.get("from_checkpoint"):
            body["from_checkpoint"] = given["from_checkpoint"]
        if given["memory"].strip():
            body["memory"] = given["memory"].strip()
        if given.get("payload", "").strip():
            body["payload"] = written.payload(given["payload"])
        made = await page.api.ask("POST", f"{path}/replay", body)
    except Refusal as refusal:
        if refusal.status not in (404, 409, 422):
            raise
        return await _replay_view(page, await page.api.get(path), given, refusal)
    return to(f"/runs/{made['id']}")


async def _replay_view(page: Page, run: dict[str, Any], given: dict[str, str], problem: Refusal | None) -> View:
    path = f"/runs/{segment(run['id'])}"
    checkpoints, deployments = await asyncio.gather(
        page.api.get(f"{path}/checkpoints", limit=500),
        page.api.get("/deployments", project=run["project"], limit=50),
    )
    keys = [item for item in checkpoints["items"] if item["state"] == "done"]
    chosen = given.get("from_checkpoint", "")
    kept = next((number + 1 for number, item in enumerate(keys) if item["key"] == chosen), 0)
    return View(
        "replay.html",
        {
            "run": run,
            "path": path,
            "given": given,
            "problem": problem,
            "keys": keys,
            "kept": keys[:kept],
            "saved": sum(_took(item) for item in keys[:kept]),
            "again": keys[kept:],
            "deployments": [d for d in deployments["items"] if d["status"] == "ready"],
        },
        topics=(),
        status=problem.status if problem else 200,
    )


def _took(item: dict[str, Any]) -> float:
    """Milliseconds from the begin of a checkpoint to its end; 0 where that is not known."""
    if not item.get("begun_at"):
        return 0.0
    return 1000 * (parse(item["created_at"]) - parse(item["begun_at"])).total_seconds()


@action("/runs/{run}/check")
async def check(page: Page) -> View:
    """What is wrong with the payload as it is written now; nothing is made of it."""
    run = await page.api.get(f"/runs/{segment(page.path['run'])}")
    problem = None
    try:
        body: dict[str, Any] = {"payload": written.payload(page.form.get("payload") or "{}")}
        if page.form.get("version"):
            body["version"] = page.form["version"]
        await page.api.ask("POST", f"/tasks/{run['project']}/{run['task']}/runs/check", body)
    except Refusal as refusal:
        problem = refusal
    return View("problems.html", {"problem": problem})


# ---------------------------------------------------------------- one at a time


@action("/runs/{run}/cancel")
async def cancel(page: Page) -> Response:
    return await _done(page, "cancel")


@action("/runs/{run}/bump")
async def bump(page: Page) -> Response:
    return await _done(page, "bump")


@action("/runs/{run}/dismiss")
async def dismiss(page: Page) -> Response:
    return await _done(page, "dismiss")


async def _done(page: Page, verb: str) -> Response:
    run = segment(page.path["run"])
    await page.api.ask("POST", f"/runs/{run}/{verb}")
    return to(page.form.get("back") or f"/runs/{run}")
