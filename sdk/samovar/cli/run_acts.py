"""`samovar runs`: what is done to runs: wait for them, put them first, cancel, replay and dismiss them."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer

from samovar.cli import bulk, watching
from samovar.cli.command import Cli
from samovar.cli.errors import CliError, RunDidNotComplete
from samovar.cli.runs import RunArgument
from samovar.cli.trigger import finish, read_payload
from samovar.values.units import parse_duration


def bump_run(cli: Cli, run: RunArgument) -> None:
    """Put a queued run at the front of its queue."""
    with cli.api() as api:
        found = api.post(f"/runs/{run}/bump")
    if cli.as_json:
        cli.output.document(found)
    else:
        cli.output.line(f"{run} is next in its queue")


def release_key(cli: Cli, run: RunArgument) -> None:
    """Free a run's idempotency key: the next trigger with it makes a new run."""
    with cli.api() as api:
        found = api.post(f"/runs/{run}/release-key")
    if cli.as_json:
        cli.output.document(found)
    else:
        cli.output.line(f"the idempotency key of {run} is free")


def cancel_run(
    cli: Cli,
    runs: bulk.RunsArgument = None,
    status: bulk.StatusOption = None,
    task: bulk.TaskOption = None,
    project: bulk.ProjectOption = None,
    tag: bulk.TagOption = None,
    since: bulk.SinceOption = None,
    dry_run: bulk.DryOption = False,
    yes: bulk.YesOption = False,
    grace: bulk.GraceOption = None,
) -> None:
    """Cancel a run, or many: at once where it has not started, else with a signal, a grace, and an end."""
    conditions = bulk.conditions(status, task, project, tag, since)
    run = bulk.single(runs, conditions)
    if run is None or dry_run or grace is not None:
        bulk.many(cli, "cancel", runs, conditions, dry_run=dry_run, yes=yes, grace=grace)
        return
    with cli.api() as api:
        found = api.post(f"/runs/{run}/cancel")
    if cli.as_json:
        cli.output.document(found)
    elif found["status"] in watching.FINAL:
        cli.output.line(f"{run} is {found['status']}")
    else:
        cli.output.line(f"{run} is being canceled")


def replay_run(
    cli: Cli,
    runs: bulk.RunsArgument = None,
    from_checkpoint: Annotated[
        Optional[str], typer.Option(help="Keep the checkpoints up to this one.", metavar="KEY")
    ] = None,
    payload: Annotated[Optional[str], typer.Option(help="Another payload: JSON, @FILE or -.")] = None,
    version: Annotated[Optional[str], typer.Option(help="Another version than the current one.")] = None,
    memory: Annotated[Optional[str], typer.Option(help='Other memory than it had, e.g. "1g".')] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the new run has ended.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Show its logs as they come, and wait.")] = False,
    status: bulk.StatusOption = None,
    task: bulk.TaskOption = None,
    project: bulk.ProjectOption = None,
    tag: bulk.TagOption = None,
    since: bulk.SinceOption = None,
    dead_letter: bulk.DeadOption = False,
    error: bulk.ErrorOption = None,
    dry_run: bulk.DryOption = False,
    yes: bulk.YesOption = False,
    grace: bulk.GraceOption = None,
) -> None:
    """Start a run again as a new one, or many."""
    conditions = bulk.conditions(status, task, project, tag, since, dead_letter, error)
    body: dict[str, Any] = {}
    if version is not None:
        body["version"] = version
    run = bulk.single(runs, conditions)
    if run is None or dry_run or grace is not None:
        only_one = {
            "--from-checkpoint": from_checkpoint,
            "--payload": payload,
            "--memory": memory,
            "--wait": wait,
            "--follow": follow,
        }
        for option, value in only_one.items():
            if value:
                message = f"{option} is for the replay of one run: give its id alone"
                raise CliError(message, fields=[{"path": option.lstrip("-"), "message": message}])
        bulk.many(cli, "replay", runs, conditions, dry_run=dry_run, yes=yes, grace=grace, **body)
        return
    if from_checkpoint is not None:
        body["from_checkpoint"] = from_checkpoint
    if payload is not None:
        body["payload"] = read_payload(payload)
    if memory is not None:
        body["memory"] = memory
    with cli.api() as api:
        finish(cli, api, api.post(f"/runs/{run}/replay", body), wait=wait, follow=follow)


def dismiss_run(
    cli: Cli,
    runs: bulk.RunsArgument = None,
    status: bulk.StatusOption = None,
    task: bulk.TaskOption = None,
    project: bulk.ProjectOption = None,
    tag: bulk.TagOption = None,
    since: bulk.SinceOption = None,
    dead_letter: bulk.DeadOption = False,
    error: bulk.ErrorOption = None,
    dry_run: bulk.DryOption = False,
    yes: bulk.YesOption = False,
    grace: bulk.GraceOption = None,
) -> None:
    """Take a failed run off the dead-letter list, or many."""
    conditions = bulk.conditions(status, task, project, tag, since, dead_letter, error)
    run = bulk.single(runs, conditions)
    if run is None or dry_run or grace is not None:
        bulk.many(cli, "dismiss", runs, conditions, dry_run=dry_run, yes=yes, grace=grace)
        return
    with cli.api() as api:
        found = api.post(f"/runs/{run}/dismiss")
    if cli.as_json:
        cli.output.document(found)
    else:
        cli.output.line(f"{run} is dismissed")


def wait_for_run(
    cli: Cli,
    run: RunArgument,
    timeout: Annotated[Optional[str], typer.Option(help='Give up after so long, e.g. "10m".')] = None,
) -> None:
    """Wait until a run has ended; exit code 1 where it did not complete."""
    try:
        seconds = None if timeout is None else parse_duration(float(timeout) if timeout.isdigit() else timeout)
    except ValueError as error:
        raise CliError(f"--timeout: {error}", fields=[{"path": "timeout", "message": str(error)}]) from None
    with cli.api() as api:
        found = watching.wait(api, cli.output, api.get(f"/runs/{run}"), timeout=seconds)
    if found["status"] not in watching.FINAL:
        if cli.as_json:
            cli.output.document(found)
        cli.output.say(f"{run} is still {found['status']} after {timeout}")
        raise RunDidNotComplete(f"{run} has not ended")
    watching.conclude(cli.output, found)
