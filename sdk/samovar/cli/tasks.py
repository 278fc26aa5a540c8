"""`samovar tasks`: the tasks that are deployed, and how they do."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any, Optional

import typer

from samovar.cli import projects
from samovar.cli.command import Cli
from samovar.cli.output import memory, milliseconds


def list_tasks(
    cli: Cli,
    task: Annotated[Optional[str], typer.Argument(help="Only this task.", metavar="TASK")] = None,
    project: Annotated[Optional[str], projects.only_option("Only tasks of this project")] = None,
    window: Annotated[str, typer.Option(help="How far back: 1h, 24h, 7d or 30d.")] = "24h",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 200,
) -> None:
    """List the tasks of the current versions: runs, failures, times, and what memory they should ask for."""
    of = projects.narrowed(cli.output, project) if task is None or "/" not in task else project
    with cli.api() as api:
        found = list(islice(api.items("/tasks", project=of, task=task, window=window), limit))
    if cli.as_json:
        cli.output.document({"items": found, "next": None})
        return
    cli.output.table(
        (
            "task",
            "version",
            "runs",
            "failed",
            "per hour",
            "queued p95",
            "start p95",
            "run p50",
            "run p95",
            "cold",
            "memory",
        ),
        [_row(item) for item in found],
        empty="no tasks: nothing is deployed",
    )
    for item in found:
        advice = item["figures"].get("memory")
        if advice is not None and advice["kind"] != "fits":
            cli.output.say(f"{item['project']}/{item['task']}: {advice['message']}")


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    figures = item["figures"]
    peak, asked = figures["peak_p99_bytes"], item["options"].get("memory")
    return (
        f"{item['project']}/{item['task']}",
        item["version"],
        str(figures["runs"]),
        f"{figures['failed']} ({figures['failed'] / figures['runs']:.0%})" if figures["failed"] else "",
        f"{figures['per_hour']:.3g}",
        milliseconds(figures["queued_ms"]["p95"]),
        milliseconds(figures["start_ms"]["p95"]),
        milliseconds(figures["run_ms"]["p50"]),
        milliseconds(figures["run_ms"]["p95"]),
        "" if figures["cold"] is None else f"{figures['cold']:.0%}",
        memory(asked) if peak is None else f"{memory(peak)} of {memory(asked)}",
    )
