"""Why a run ran out of memory: what its container said last, and how to go on with more."""

from __future__ import annotations

from typing import Any

from coordinator.dashboard.formats import size
from coordinator.dashboard.pages import Page
from coordinator.dashboard.rendering import address, segment

_MIB = 1024**2


async def card(
    page: Page, run: dict[str, Any], attempts: list[dict[str, Any]], spans: list[dict[str, Any]]
) -> dict[str, Any] | None:
    """Of the latest attempt that ran out of memory; None where none of them has."""
    died = [n for n, one in enumerate(attempts) if (one["error"] or {}).get("reason") == "out_of_memory"]
    if not died:
        return None
    one = attempts[died[-1]]
    path = f"/runs/{segment(run['id'])}"
    lines = await page.api.get(f"{path}/logs", attempt=one["number"], before="end", limit=1)
    stored = [s for s in spans if s["kind"] == "checkpoint" and s["attempt"] <= one["number"]]
    key = stored[-1]["name"] if stored else None
    usage = one["usage"]
    more = larger(usage["memory_limit_bytes"] or 0)
    return {
        "attempt": one,
        "after": attempts[died[-1] + 1] if died[-1] + 1 < len(attempts) else None,
        "usage": usage,
        "held": usage["held"],
        "line": lines["items"][-1] if lines["items"] else None,
        "checkpoint": key,
        "more": size(more),
        "again": address(f"{path}/replay", **{"from": key, "memory": asked(more)}),
    }


def larger(limit: int) -> int:
    """What to give a run that `limit` bytes were too few for: the next power of two MiB that is twice as much."""
    wanted = 32 * _MIB
    while wanted < 2 * limit:
        wanted *= 2
    return wanted


def asked(memory: int) -> str:
    """As an option has it: "1g"."""
    count = memory // _MIB
    return f"{count // 1024}g" if count % 1024 == 0 else f"{count}m"
