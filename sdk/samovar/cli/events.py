"""`samovar events`: send them, and see what they caused."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any, Optional

import typer

from samovar.cli import projects
from samovar.cli.command import Cli
from samovar.cli.output import ago
from samovar.cli.trigger import read_json


def send_event(
    cli: Cli,
    name: Annotated[str, typer.Argument(help="The event's name.")],
    payload: Annotated[
        Optional[str], typer.Option(help="What it says, as JSON; @FILE reads a file, - reads stdin.")
    ] = None,
    id: Annotated[Optional[str], typer.Option("--id", help="The same id is the same event, sent once.")] = None,
    project: Annotated[
        Optional[str], typer.Option(help="Only to tasks of this project; default: every project.")
    ] = None,
) -> None:
    """Send an event to every task that listens to it."""
    body: dict[str, Any] = {"name": name, "payload": read_json(payload), "id": id, "project": project}
    with cli.api() as api:
        event = api.post("/events", {key: value for key, value in body.items() if value is not None})
    if cli.as_json:
        cli.output.document(event)
        return
    cli.output.line(event["id"])
    for run in event["runs"]:
        cli.output.say(f"{run['project']}/{run['task']}: run {run['id']}")
    for problem in event["problems"]:
        cli.output.problem(
            f"{problem['project']}/{problem['task']} has no run: {problem['message']}", [], word="warning"
        )
    if not event["runs"] and not event["problems"]:
        cli.output.say(f"no task listens to {name!r}, or none of their filters fits")


def list_events(
    cli: Cli,
    name: Annotated[Optional[str], typer.Option(help="Only of this name.")] = None,
    project: Annotated[Optional[str], projects.only_option("Only what concerns this project")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 20,
) -> None:
    """List the events that were sent, newest first."""
    with cli.api() as api:
        project = projects.narrowed(cli.output, project)
        found = list(islice(api.items("/events", name=name, project=project, limit=min(limit, 100)), limit))
    if cli.as_json:
        cli.output.document({"items": found, "next": None})
        return
    cli.output.table(
        ("id", "event", "project", "sent", "runs", "without a run"),
        [
            (
                str(event["id"]),
                str(event["name"]),
                str(event["project"] or "all"),
                ago(event["created_at"]),
                str(len(event["runs"])),
                ", ".join(f"{problem['project']}/{problem['task']}" for problem in event["problems"]),
            )
            for event in found
        ],
        empty="no events; `samovar events send NAME` sends one",
    )
