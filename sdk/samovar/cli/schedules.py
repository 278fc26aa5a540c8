"""`samovar schedules`: when tasks run by themselves."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer

from samovar.cli import projects
from samovar.cli.command import Cli
from samovar.cli.errors import CliError, NotFound
from samovar.cli.trigger import read_payload

ScheduleArgument = Annotated[
    str,
    typer.Argument(
        help="The schedule's id, or its task (or project/task), with :NAME for one made by `schedules create`.",
        metavar="SCHEDULE",
    ),
]


def list_schedules(
    cli: Cli,
    project: Annotated[Optional[str], projects.only_option("Only of this project")] = None,
) -> None:
    """List the schedules of the current deployments."""
    with cli.api() as api:
        found = list(api.items("/schedules", project=projects.narrowed(cli.output, project)))
    if cli.as_json:
        cli.output.document({"items": found, "next": None})
        return
    cli.output.table(
        ("task", "cron", "timezone", "catchup", "next", "last", "run", "status"),
        [_row(item) for item in found],
        empty="no schedules; @task(schedule=Cron(...)) gives a task one",
    )


def next_ticks(
    cli: Cli,
    schedule: ScheduleArgument,
    count: Annotated[int, typer.Option("--count", min=1, max=100, help="How many.")] = 5,
) -> None:
    """Show a schedule's next ticks, in its own time zone."""
    with cli.api() as api:
        item = _find(api, schedule)
        found = api.get(f"/schedules/{item['id']}/next", count=count)
    if cli.as_json:
        cli.output.document(found)
        return
    if item["paused"]:
        cli.output.say(f"{_name(item)} is paused: these would be its ticks")
    for tick in found["items"]:
        cli.output.line(str(tick["local"]))


def create_schedule(
    cli: Cli,
    task: Annotated[str, typer.Argument(help="The task (or project/task).", metavar="TASK")],
    name: Annotated[str, typer.Argument(help="What to call it; a task may have several.", metavar="NAME")],
    cron: Annotated[str, typer.Argument(help='When, as "0 3 * * *".', metavar="CRON")],
    timezone: Annotated[str, typer.Option(help="The IANA zone it is meant in.")] = "UTC",
    catchup: Annotated[str, typer.Option(help="What becomes of missed ticks: skip or all.")] = "skip",
    payload: Annotated[Optional[str], typer.Option(help="What its runs get: JSON, @FILE or -.")] = None,
) -> None:
    """Make a schedule beside the one that the task's code may have."""
    body = {"task": task, "name": name, "cron": cron, "timezone": timezone, "catchup": catchup}
    with cli.api() as api:
        item = api.post("/schedules", {**body, "payload": read_payload(payload)})
    if cli.as_json:
        cli.output.document(item)
    else:
        cli.output.line(f"{_name(item)} runs next at {item['next_at']}")


def delete_schedule(cli: Cli, schedule: ScheduleArgument) -> None:
    """End a schedule that `schedules create` made; its runs stay."""
    with cli.api() as api:
        item = _find(api, schedule)
        api.delete(f"/schedules/{item['id']}")
    if cli.as_json:
        cli.output.document(item)
    else:
        cli.output.line(f"{_name(item)} is removed")


def pause(cli: Cli, schedule: ScheduleArgument) -> None:
    """Let a schedule make no runs until it is resumed."""
    _change(cli, schedule, paused=True)


def resume(cli: Cli, schedule: ScheduleArgument) -> None:
    """Let a paused schedule go on with its next tick; those of the pause are not made up."""
    _change(cli, schedule, paused=False)


def _change(cli: Cli, schedule: str, *, paused: bool) -> None:
    with cli.api() as api:
        item = api.patch(f"/schedules/{_find(api, schedule)['id']}", {"paused": paused})
    if cli.as_json:
        cli.output.document(item)
    elif paused:
        cli.output.line(f"{_name(item)} is paused")
    else:
        cli.output.line(f"{_name(item)} runs next at {item['next_at']}")


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    last = item["last"] or {}
    following = "paused" if item["paused"] else str(item["next_at"])
    outcome = str(last.get("status") or last.get("problem") or "")
    return (
        _name(item),
        str(item["cron"]),
        str(item["timezone"]),
        str(item["catchup"]),
        following,
        str(last.get("at") or ""),
        str(last.get("run") or ""),
        outcome,
    )


def _name(item: dict[str, Any]) -> str:
    name = f"{item['project']}/{item['task']}"
    return f"{name}:{item['name']}" if item.get("name") else name


def _find(api: Any, name: str) -> dict[str, Any]:
    items = list(api.items("/schedules"))
    found = [item for item in items if name in (item["id"], _name(item), f"{item['task']}:{item.get('name')}")]
    # a task alone is the schedule of its code
    found = found or [item for item in items if name == item["task"] and not item.get("name")]
    if not found:
        raise NotFound(f"there is no schedule {name!r}; see `samovar schedules list`")
    if len(found) > 1:
        names = " or ".join(_name(item) for item in found)
        raise CliError(f"several projects have a schedule of {name!r}: name one as {names}", code="ambiguous_task")
    return dict(found[0])
