"""`samovar checkpoints`: what a run has stored."""

from __future__ import annotations

from typing import Any

from samovar.cli.command import Cli
from samovar.cli.output import ago, between, memory, milliseconds, short
from samovar.cli.runs import RunArgument


def list_checkpoints(cli: Cli, run: RunArgument) -> None:
    """List the checkpoints and waits of a run, in the order in which it came to them."""
    items: list[dict[str, Any]] = []
    after = None
    with cli.api() as api:
        while True:
            page = api.get(f"/runs/{run}/checkpoints", after=after)
            items += page["items"]
            after = page["next"]
            if after is None:
                break
    if cli.as_json:
        cli.output.document({"items": items, "next": None})
        return
    cli.output.table(
        ("key", "kind", "state", "attempt", "stored", "took", "size", "value"),
        [
            (
                item["key"],
                item["kind"] if item.get("name") is None else f"{item['kind']} {item['name']}",
                item["state"] if item.get("until") is None else f"{item['state']} until {item['until']}",
                str(item["attempt"]),
                ago(item["created_at"]),
                _took(item),
                memory(item["size_bytes"]),
                _value(item),
            )
            for item in items
        ],
        empty="no checkpoints",
    )


def _took(item: dict[str, Any]) -> str:
    if item.get("begun_at") is None:
        return ""
    return milliseconds(1000 * between(item["begun_at"], item["created_at"]))


def _value(item: dict[str, Any]) -> str:
    runs = item.get("runs")
    if runs:
        return runs[0] if len(runs) == 1 else f"{runs[0]} and {len(runs) - 1} more runs"
    return short(item.get("value"), 80) if item["state"] == "done" else ""
