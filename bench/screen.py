"""What somebody sees who looks at the dashboard: how soon a page stands, how soon a change is on it, and how a log
is followed that never ends. In a real Chromium, on a real install.
"""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

from playwright.sync_api import Page, sync_playwright
from samovar import Client

from bench.bed import Bed, beside
from bench.figures import Outcome, Series, Target
from bench.project import Project
from tests.browser.conftest import CHROMIUM, FLAGS
from tests.browser.watching import Visitor

#: Milliseconds, shares of the window, elements.
PAINTED_MS, SHIFTED, ROW_MS, LINE_MS, FRAME_MS, ELEMENTS = 1000.0, 0.05, 500.0, 300.0, 200.0, 5000
#: How much slower the processor of whoever looks is.
_SLOWER = 4
_PAGES = ("/", "/runs", "/runs/{run}", "/runs/{run}/logs", "/tasks", "/queues", "/pool", "/errors", "/deployments")
_LINES_A_SECOND = 10_000
_PATIENCE_MS = 60_000

TASKS = '''\
"""What is looked at."""

import time

from samovar import task


@task(id="short")
def short() -> int:
    return 1


@task(id="ticks", timeout="10m")
def ticks(count: int) -> None:
    time.sleep(3)
    for _ in range(count):
        print("tick", time.time())
        time.sleep(0.2)


@task(id="torrent", timeout="5m")
def torrent(seconds: float, rate: int) -> int:
    until, told = time.time() + seconds, 0
    while (now := time.time()) < until:
        due = int((now - until + seconds) * rate)
        print("\\n".join(f"line {number} of many" for number in range(told, due)))
        told = due
        time.sleep(0.02)
    return told
'''

#: What a page notes of itself, before anything of the server's runs.
_NOTING = """
window.seen = {painted: 0, shifted: 0, rows: {}, lines: [], frames: 0, elements: 0};
new PerformanceObserver((list) => { for (const one of list.getEntries()) seen.painted = one.startTime; })
    .observe({type: "largest-contentful-paint", buffered: true});
new PerformanceObserver((list) => { for (const one of list.getEntries()) seen.shifted += one.value; })
    .observe({type: "layout-shift", buffered: true});
let known = 0;
new MutationObserver((changes) => {
    const now = Date.now();
    for (const row of document.querySelectorAll("tr[data-href]"))
        if (row.textContent.includes("completed")) seen.rows[row.dataset.href] ??= now;
    for (const change of changes) for (const node of change.addedNodes)
        for (const [, at] of (node.textContent ?? "").matchAll(/tick (\\d+\\.\\d+)/g)) seen.lines.push([at, now]);
}).observe(document, {childList: true, subtree: true});
let before = null;
function frame(now) {
    if (before !== null) seen.frames = Math.max(seen.frames, now - before);
    before = now;
    requestAnimationFrame(frame);
}
requestAnimationFrame(frame);
setInterval(() => { seen.elements = Math.max(seen.elements, document.getElementsByTagName("*").length); }, 250);
"""


def screen(bed: Bed, count: int) -> list[Outcome]:
    """`count` runs are seen to end, and as many lines to appear; a log of 10,000 lines a second is followed for as
    many seconds.
    """
    given = json.loads((bed.samovar.data / "credentials.json").read_text())
    with beside(bed, TASKS) as project, sync_playwright() as playwright, bed.samovar.client() as client:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        visitor = Visitor(browser, given["url"])
        visitor.context.add_init_script(_NOTING)
        try:
            visitor.sign_in(given["api_key"])
            for _ in range(60):
                client.trigger(f"{project.name}/short")
            run = client.trigger(f"{project.name}/ticks", {"count": 5}).wait(120).id
            outcomes = [
                _pages(visitor, run),
                _rows(visitor, client, project, count),
                _lines(visitor, client, project, count),
                _torrent(visitor, client, project, float(count)),
            ]
            visitor.check()
            return outcomes
        finally:
            visitor.close()
            browser.close()


def _seen(page: Page) -> dict[str, Any]:
    return dict(page.evaluate("seen"))


def _pages(visitor: Visitor, run: str) -> Outcome:
    painted, shifted = Series("largest paint", "ms"), Series("layout shifted", "of the window")
    slowest = ""
    for path in _PAGES:
        page = visitor.context.new_page()
        session = visitor.context.new_cdp_session(page)
        session.send("Emulation.setCPUThrottlingRate", {"rate": _SLOWER})
        page.goto(path.format(run=run))
        # what is late would come now
        page.wait_for_timeout(1500)
        seen = _seen(page)
        if not painted.samples or seen["painted"] > max(painted.samples):
            slowest = path
        painted.add(float(seen["painted"]))
        shifted.add(float(seen["shifted"]))
        page.close()
    return Outcome(
        "screen: pages",
        f"{len(_PAGES)} pages in Chromium, with a processor {_SLOWER} times slower",
        [painted, shifted],
        [],
        [
            Target(f"largest paint of the slowest page ({slowest})", max(painted.samples), PAINTED_MS, "ms"),
            Target("most that was shifted", max(shifted.samples), SHIFTED, "of the window"),
        ],
    )


def _rows(visitor: Visitor, client: Client, project: Project, count: int) -> Outcome:
    page = visitor.go(f"/runs?project={project.name}")
    late = Series("row", "ms")
    for _ in range(count):
        run = client.trigger(f"{project.name}/short").wait(120)
        path = f"/runs/{run.id}"
        page.wait_for_function("path => seen.rows[path]", arg=path, timeout=_PATIENCE_MS)
        ended = datetime.fromisoformat(str(run.data["finished_at"])).timestamp()
        late.add(float(_seen(page)["rows"][path]) - 1000 * ended)
        time.sleep(0.3)
    return Outcome(
        "screen: rows",
        "a run has ended → its row says so, in an open list",
        [late],
        [],
        [Target("95th percentile", late.percentile(95), ROW_MS, "ms")],
    )


def _lines(visitor: Visitor, client: Client, project: Project, count: int) -> Outcome:
    run = client.trigger(f"{project.name}/ticks", {"count": count})
    page = visitor.go(f"/runs/{run.id}/logs")
    run.wait(600)
    page.wait_for_function("count => seen.lines.length >= count", arg=count, timeout=_PATIENCE_MS)
    late = Series("line", "ms", [float(now) - 1000 * float(at) for at, now in _seen(page)["lines"]])
    return Outcome(
        "screen: lines",
        "print() in a task → the line in an open log",
        [late],
        [],
        [Target("95th percentile", late.percentile(95), LINE_MS, "ms")],
    )


def _torrent(visitor: Visitor, client: Client, project: Project, seconds: float) -> Outcome:
    run = client.trigger(f"{project.name}/torrent", {"seconds": seconds, "rate": _LINES_A_SECOND})
    page = visitor.go(f"/runs/{run.id}/logs")
    ended = run.wait(600)
    page.wait_for_timeout(2000)
    seen = _seen(page)
    frames, elements = Series("longest frame", "ms", [seen["frames"]]), Series("elements", "", [seen["elements"]])
    lines = page.locator(".log > *").count()
    return Outcome(
        "screen: a log without end",
        f"{_LINES_A_SECOND:,} lines a second for {seconds:g} s, followed",
        [frames, elements],
        [],
        [
            Target("longest frame", frames.median, FRAME_MS, "ms"),
            Target("elements of the page", elements.median, ELEMENTS, ""),
        ],
        notes=[f"{lines:,} lines are shown of the {ended.data['result'] or 0:,} printed; it is {ended.status}"],
    )
