"""`samovar queues`: what is in them, and live changes."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

from typing import Annotated, Any, Optional
from urllib.parse import quote

import typer

from samovar.cli import projects
from samovar.cli.command import Cli
from samovar.cli.errors import CliError

QueueArgument = Annotated[str, typer.Argument(help="The queue's name; a task's own is task/ID.", metavar="QUEUE")]
ProjectOption = Annotated[
    Optional[str],
    typer.Option(
        "--project",
        help="The project; by default that of the samovar.toml here, else the only one with a queue of this name.",
    ),
]


def list_queues(
    cli: Cli, project: Annotated[Optional[str], projects.only_option("Only queues of this project")] = None
) -> None:
    """List the queues: their limits, and what is in them."""
    with cli.api() as api:
        found = api.get("/queues", project=projects.narrowed(cli.output, project))
    if cli.as_json:
        cli.output.document(found)
        return
    cli.output.table(
        ("queue", "running", "limit", "queued", "per key", "rate", "when full", "state"),
        [
            (
                f"{queue['project']}: {queue['name']}",
                str(queue["running"]),
                _limit(queue),
                str(queue["queued"]),
                "" if queue["per_key"] is None else str(queue["per_key"]),
                f"{queue['rate']} ({queue['rate_excess']})" if queue["rate"] else "",
                queue["on_full"],
                "paused" if queue["paused"] else "",
            )
            for queue in found["items"]
        ],
        empty="no queues: nothing is deployed",
    )


def set_queue(
    cli: Cli,
    queue: QueueArgument,
    concurrency: Annotated[
        Optional[int], typer.Option(help="How many of its runs execute at once.", metavar="N")
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Back to the limit that the code declares.")] = False,
    project: ProjectOption = None,
) -> None:
    """Change the limit of a queue live; it stays changed, also after a deploy, until --reset."""
    if (concurrency is None) == (not reset):
        message = "give --concurrency N, or --reset for the limit of the code"
        raise CliError(message, code="invalid_option", fields=[{"path": "concurrency", "message": message}])
    _change(cli, queue, project, {"concurrency": concurrency})


def pause_queue(cli: Cli, queue: QueueArgument, project: ProjectOption = None) -> None:
    """Let nothing start from a queue; what runs goes on, and triggers are still taken."""
    _change(cli, queue, project, {"paused": True})


def resume_queue(cli: Cli, queue: QueueArgument, project: ProjectOption = None) -> None:
    """Let runs of a paused queue start again."""
    _change(cli, queue, project, {"paused": False})


def _change(cli: Cli, queue: str, project: str | None, body: dict[str, Any]) -> None:
    with cli.api() as api:
        found = api.patch(f"/queues/{quote(queue, safe='/')}", body, project=project or projects.here())
    if cli.as_json:
        cli.output.document(found)
        return
    state = "paused" if found["paused"] else "open"
    cli.output.line(
        f"{found['project']}: {found['name']} is {state}; {found['running']} running, limit {_limit(found)}, "
        f"{found['queued']} queued"
    )


def _limit(queue: dict[str, Any]) -> str:
    limit = "none" if queue["concurrency"] is None else str(queue["concurrency"])
    if not queue["overridden"]:
        return limit
    declared = queue["declared_concurrency"]
    return f"{limit} (in the code: {'none' if declared is None else declared})"
