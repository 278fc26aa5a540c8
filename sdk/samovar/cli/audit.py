"""`samovar audit`: who did what, from where."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

from itertools import islice
from typing import Annotated, Optional

import typer

from samovar.cli import projects
from samovar.cli.command import Cli
from samovar.cli.output import ago


def show_audit(
    cli: Cli,
    project: Annotated[Optional[str], projects.only_option("Only what concerns this project")] = None,
    action: Annotated[Optional[str], typer.Option(help="Only this action, such as deployment.promote.")] = None,
    key: Annotated[Optional[str], typer.Option(help="Only what came with this key: its name or id.")] = None,
    since: Annotated[Optional[str], typer.Option(help="A time in ISO 8601, or how long ago: 90s, 2h, 7d.")] = None,
    refused: Annotated[bool, typer.Option("--refused", help="Only what was refused.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 50,
) -> None:
    """Show who changed what, from where, and what was refused, newest first."""
    wanted = {"action": action, "key": key, "since": since, "outcome": "refused" if refused else None}
    with cli.api() as api:
        project = projects.narrowed(cli.output, project)
        found = list(islice(api.items("/audit", project=project, limit=min(limit, 500), **wanted), limit))
    if cli.as_json:
        cli.output.document({"items": found, "next": None})
        return
    cli.output.table(
        ("when", "key", "from", "action", "project", "target", ""),
        [
            (
                ago(entry["at"]),
                str(entry["key"] or "none"),
                str(entry["address"]),
                str(entry["action"]),
                str(entry["project"] or ""),
                str(entry["target"]),
                "refused" if entry["outcome"] == "refused" else "",
            )
            for entry in found
        ],
        empty="nothing",
    )
