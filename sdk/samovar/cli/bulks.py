"""`samovar bulk`: what is done with many runs at once, after a grace in which it may be taken back."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any, Optional
from urllib.parse import quote

import typer

from samovar.cli import projects
from samovar.cli.command import Cli
from samovar.cli.output import ago

BulkArgument = Annotated[str, typer.Argument(help="Its id.", metavar="BULK")]

_PROBLEMS = 1000


def list_bulks(
    cli: Cli,
    project: Annotated[Optional[str], projects.only_option("Only what concerns this project")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 20,
) -> None:
    """List what was asked to be done with many runs, newest first."""
    with cli.api() as api:
        of = projects.narrowed(cli.output, project)
        found = list(islice(api.items("/bulk", project=of, limit=min(limit, 100)), limit))
    if cli.as_json:
        cli.output.document({"items": found, "next": None})
        return
    cli.output.table(
        ("id", "what", "status", "expected", "done", "not done", "key", "asked for"),
        [
            (
                one["id"],
                one["act"],
                one["status"].replace("_", " "),
                str(one["expected"]),
                str(one["done"]),
                str(one["problems"]),
                one["key"] or "",
                ago(one["created_at"]),
            )
            for one in found
        ],
        empty="nothing was done with many runs; `samovar runs cancel --status queued --grace 10s` asks for it",
    )


def show_bulk(cli: Cli, bulk: BulkArgument) -> None:
    """Show how far it has come, and which runs it could not be done to."""
    path = f"/bulk/{quote(bulk, safe='')}"
    with cli.api() as api:
        found = api.get(path)
        of = api.items(f"{path}/runs", problems="true", limit=500) if found["problems"] else []
        problems = list(islice(of, _PROBLEMS))
    if cli.as_json:
        cli.output.document({**found, "not_done": problems})
        return
    _print(cli, found)
    if problems:
        cli.output.line("")
        rows = [(item["run"], item["problem"]) for item in problems]
        cli.output.table(("run", "problem"), rows, empty="")


def take_back(cli: Cli, bulk: BulkArgument) -> None:
    """Take it back: before it has begun nothing was done, afterwards no more is."""
    with cli.api() as api:
        found = api.post(f"/bulk/{quote(bulk, safe='')}/take-back")
    if cli.as_json:
        cli.output.document(found)
    elif found["status"] == "taken_back":
        cli.output.line(f"{bulk} is taken back: nothing was done")
    else:
        cli.output.line(f"{bulk} is stopped: {found['done']} of {found['expected']} were done")


def asked(cli: Cli, action: str, wanted: dict[str, Any], grace: str, **body: Any) -> None:
    """Asks for it, to begin after `grace`."""
    with cli.api() as api:
        found = api.post("/bulk", {"act": action, "filter": wanted, "grace": grace, **body})
    if cli.as_json:
        cli.output.document(found)
        return
    cli.output.line(found["id"])
    cli.output.say(
        f"{action} {found['expected']} runs, from {found['starts_at']} on; to take it back: "
        f"samovar bulk take-back {found['id']}"
    )


def _print(cli: Cli, bulk: dict[str, Any]) -> None:
    conditions = " ".join(f"{name}={value}" for name, value in bulk["filter"].items() if value)
    cli.output.pairs(
        [
            ("id", bulk["id"]),
            ("what", bulk["act"]),
            ("status", bulk["status"].replace("_", " ")),
            ("runs", conditions),
            ("done", f"{bulk['done']} of {bulk['expected']}, {bulk['problems']} not done"),
            ("asked for", f"{bulk['created_at']} by {bulk['key']}"),
            ("begins", bulk["starts_at"]),
            ("over", bulk["finished_at"] or ""),
            ("problem", bulk["problem"] or ""),
        ]
    )
