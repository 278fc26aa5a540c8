"""`samovar pool`: the containers that runners hold."""

from __future__ import annotations

from typing import Any

from samovar.cli.command import Cli
from samovar.cli.output import duration, memory


def show_pool(cli: Cli) -> None:
    """Show the containers of every live runner: those at work, and those kept warm."""
    with cli.api() as api:
        found = api.get("/pool")
    if cli.as_json:
        cli.output.document(found)
        return
    runners = list(found["items"])
    if not runners:
        cli.output.say("no runner is alive; `samovar up` starts one, and `samovar doctor` says what is in its way")
        return
    rows: list[tuple[str, ...]] = []
    for runner in runners:
        entries: list[dict[str, Any]] = list(runner["containers"])
        held = sum(int(entry["memory"]) for entry in entries)
        cli.output.say(
            f"runner {runner['runner']}: {len(entries)} containers hold {memory(held)} of "
            f"{memory(runner['memory'])}, {runner['slots']} slots"
        )
        for entry in entries:
            rows.append(
                (
                    str(entry["container"])[:24],
                    str(entry["project"]),
                    str(entry["state"]),
                    memory(int(entry["memory"])),
                    str(entry["runs"]),
                    duration(float(entry["age"])),
                    str(entry.get("task") or ""),
                )
            )
    cli.output.table(
        ("container", "project", "state", "memory", "runs", "age", "task"), rows, empty="no containers"
    )
