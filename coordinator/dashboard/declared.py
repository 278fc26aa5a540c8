"""What versions declare of their tasks' payloads, as pages have asked for it: that of a version never changes."""

from __future__ import annotations

from typing import Any

from cachetools import LRUCache

from coordinator.dashboard.pages import Page

_MOST = 64


async def parameters(page: Page, run: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of the run's payload in the run's own version; empty where that is gone. Raises Refusal."""
    state = page.request.app.state
    if not hasattr(state, "declared"):
        state.declared = LRUCache(_MOST)
    known: LRUCache[tuple[str, str], dict[str, Any]] = state.declared
    task = f"{run['project']}/{run['task']}"
    found = known.get((task, run["version"]))
    if found is None:
        answer = await page.api.get("/tasks", task=task, version=run["version"])
        found = known[task, run["version"]] = answer["items"][0]["parameters"] if answer["items"] else {}
    return found
