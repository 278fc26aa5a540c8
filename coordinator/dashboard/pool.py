"""Containers and hosts: who has which memory, what stands ready, and what became of those that have left."""

from __future__ import annotations

import asyncio
from typing import Any

from markupsafe import Markup
from starlette.responses import Response

from coordinator.api.inside import Refusal
from coordinator.dashboard.drawing import Part, Point, against, bar, curve
from coordinator.dashboard.formats import milliseconds, size
from coordinator.dashboard.pages import Page, View, action, page, to
from coordinator.dashboard.rendering import segment

#: The parts of a host's memory, with their colours.
_STATES = (("busy", "ran"), ("idle", "good"), ("starting", "start"), ("leaving", "placed"))


def ledger(host: dict[str, Any]) -> Markup:
    """A host's memory: what its containers may take, by their state, and what is free."""
    parts = []
    for state, kind in _STATES:
        held = sum(c["memory"] for c in host["containers"] if c["state"] == state)
        if held:
            parts.append(Part(state, held, kind, size(held)))
    free = max(0, host["memory"] - host["used"])
    parts.append(Part("free", free, "free", size(free)))
    return bar(parts, f"the memory of {host['runner']}")


def curves(found: dict[str, Any]) -> list[tuple[str, Markup]]:
    """What another memory would have changed, as two curves over it; the line is what the hosts give now."""
    points = found["points"]
    cold = [Point(p["memory"], p["cold_ratio"], f"{size(p['memory'])}: {p['cold_ratio']:.1%} cold") for p in points]
    delays = [
        Point(p["memory"], p["mean_delay_ms"], f"{size(p['memory'])}: {milliseconds(p['mean_delay_ms'])}")
        for p in points
    ]
    drawn = [
        ("Part of the starts that is cold", cold, "cold starts against memory"),
        ("Mean delay of a start", delays, "mean delay against memory"),
    ]
    return [
        (f"{words}, from {points[0].words} to {points[-1].words}", picture)
        for words, points, label in drawn
        if (picture := against(points, found["memory"], label))
    ]


@page("/pool")
async def show(page: Page) -> View:
    project = page.query("project")
    found = await page.api.get("/pool", project=project, left=50)
    what_if = None
    if page.query("what-if"):
        what_if = await page.api.get("/pool/what-if", project=project)
    causes = sorted({*found["hour"]["causes"], *found["day"]["causes"]})
    return View(
        "pool.html",
        {
            "hosts": found["items"],
            "hour": found["hour"],
            "day": found["day"],
            "causes": causes,
            "left": found["left"],
            "ledger": ledger,
            "project": project,
            "what_if": what_if,
            "curves": curves(what_if) if what_if else [],
        },
    )


@page("/containers/{container}")
async def container(page: Page) -> View:
    """Of one that is there, or has left lately: its life."""
    name = page.path["container"]
    found = await page.api.get("/pool", left=1000)
    here = [(host, c) for host in found["items"] for c in host["containers"] if c["container"] == name]
    gone = [life for life in found["left"] if life["container"] == name]
    if not here and not gone:
        raise Refusal(404, "not_found", f"no container {name!r} is there, or has left lately", [])
    one = here[0][1] if here else gone[0]
    samples = [sample["after"] for sample in one.get("memory_runs", []) if sample["after"] is not None]
    runner = here[0][0]["runner"] if here else gone[0]["runner"]
    stairs = curve(samples, one["memory"], "what it held after each of its last runs")
    peaks = [sample["peak"] for sample in one.get("memory_runs", []) if sample["peak"] is not None]
    highest = curve(peaks, one["memory"], "the most that each of its last runs took")
    return View(
        "container.html",
        {
            "one": one,
            "runner": runner,
            "gone": not here,
            "stairs": stairs,
            "highest": highest,
            "runs": len(samples),
        },
    )


@page("/hosts")
async def hosts(page: Page) -> View:
    found, pool = await asyncio.gather(page.api.get("/hosts"), page.api.get("/pool", left=0))
    live = {host["runner"]: host for host in pool["items"]}
    return View("hosts.html", {"items": found["items"], "live": live, "ledger": ledger})


@action("/hosts/{host}/drain")
async def drain(page: Page) -> Response:
    method = "POST" if page.form.get("on") == "yes" else "DELETE"
    await page.api.ask(method, f"/hosts/{segment(page.path['host'])}/drain")
    return to("/hosts")
