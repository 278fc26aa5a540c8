"""The command `samovar`."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

import sys
from typing import Annotated, Optional

import typer

import samovar
from samovar.cli import (
    audit,
    checkpoints,
    deploy,
    deployments,
    dev,
    doctor,
    events,
    files,
    hosts,
    images,
    init,
    keys,
    pool,
    queues,
    runs,
    schedules,
    secrets,
    tokens,
    trigger,
    up,
    webhooks,
)
from samovar.cli.command import Common, DataOption, JsonOption, KeyOption, UrlOption, command, remember, report
from samovar.cli.errors import CliError
from samovar.cli.output import Output

app = typer.Typer(
    name="samovar",
    help="Run untrusted or heavy Python tasks, each in its own container.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
_runs = typer.Typer(help="Look at runs, wait for them, cancel them, run them again.", no_args_is_help=True)
_deployments = typer.Typer(help="Versions of a project, and which of them new runs use.", no_args_is_help=True)
_schedules = typer.Typer(help="When tasks run by themselves.", no_args_is_help=True)
_images = typer.Typer(help="The base image that projects are built on.", no_args_is_help=True)
_tokens = typer.Typer(help="End the waits of runs that asked for a token.", no_args_is_help=True)
_queues = typer.Typer(help="How many runs execute at once, and changing that live.", no_args_is_help=True)
_events = typer.Typer(help="Send events to the tasks that listen to them.", no_args_is_help=True)
app.add_typer(_runs, name="runs")
_secrets = typer.Typer(help="Texts that nothing shows again.", no_args_is_help=True)
_webhooks = typer.Typer(help="Addresses for requests from outside, and what came in.", no_args_is_help=True)
_keys = typer.Typer(help="What opens this install to programs and people.", no_args_is_help=True)
_hosts = typer.Typer(help="Machines that run tasks.", no_args_is_help=True)
app.add_typer(_hosts, name="hosts")
app.add_typer(_events, name="events")
app.add_typer(_keys, name="keys")
app.add_typer(_webhooks, name="webhooks")
app.add_typer(_secrets, name="secrets")
app.add_typer(_tokens, name="tokens")
app.add_typer(_queues, name="queues")
app.add_typer(_deployments, name="deployments")
app.add_typer(_schedules, name="schedules")
app.add_typer(_images, name="images")

command(app, "init")(init.init)
command(app, "up")(up.up)
command(app, "dev")(dev.dev)
command(app, "deploy")(deploy.deploy)
command(app, "trigger")(trigger.trigger)
command(_runs, "list")(runs.list_runs)
command(_runs, "show")(runs.show_run)
command(_runs, "attempts")(runs.list_attempts)
command(_runs, "logs")(runs.show_logs)
command(_runs, "cancel")(runs.cancel_run)
command(_runs, "bump")(runs.bump_run)
command(_runs, "release-key")(runs.release_key)
command(_runs, "replay")(runs.replay_run)
command(_runs, "dismiss")(runs.dismiss_run)
command(_runs, "wait")(runs.wait_for_run)
command(_runs, "why")(runs.explain_run)
command(_runs, "files")(files.show_files)
command(_events, "send")(events.send_event)
command(_events, "list")(events.list_events)
command(_queues, "list")(queues.list_queues)
command(_queues, "set")(queues.set_queue)
command(_queues, "pause")(queues.pause_queue)
command(_queues, "resume")(queues.resume_queue)
command(app, "checkpoints")(checkpoints.list_checkpoints)
command(_deployments, "list")(deployments.list_deployments)
command(_deployments, "promote")(deployments.promote)
command(_deployments, "rollback")(deployments.rollback)
command(_deployments, "rebuild")(deployments.rebuild)
command(_schedules, "list")(schedules.list_schedules)
command(_schedules, "next")(schedules.next_ticks)
command(_schedules, "create")(schedules.create_schedule)
command(_schedules, "delete")(schedules.delete_schedule)
command(_schedules, "pause")(schedules.pause)
command(_schedules, "resume")(schedules.resume)
command(_webhooks, "list")(webhooks.list_deliveries)
command(_webhooks, "show")(webhooks.show_delivery)
command(_webhooks, "replay")(webhooks.replay_delivery)
command(_webhooks, "urls")(webhooks.list_webhooks)
command(_keys, "create")(keys.create_key)
command(_keys, "list")(keys.list_keys)
command(_keys, "revoke")(keys.revoke_key)
command(_hosts, "token")(hosts.make_token)
command(_hosts, "list")(hosts.list_hosts)
command(_hosts, "drain")(hosts.drain_host)
command(_secrets, "set")(secrets.set_secret)
command(_secrets, "list")(secrets.list_secrets)
command(_secrets, "rm")(secrets.remove_secret)
command(_secrets, "rotate")(secrets.rotate_key)
command(_tokens, "complete")(tokens.complete_token)
command(app, "audit")(audit.show_audit)
command(app, "pool")(pool.show_pool)
command(_images, "base")(images.base_image)
command(app, "doctor")(doctor.doctor)


@app.callback(invoke_without_command=True)
def options(
    as_json: JsonOption = False,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data: DataOption = None,
    version: Annotated[
        Optional[bool], typer.Option("--version", help="Print the version and end.", is_eager=True)
    ] = None,
) -> None:
    """Run untrusted or heavy Python tasks, each in its own container."""
    if version:
        typer.echo(f"samovar {samovar.__version__}")
        raise typer.Exit(0)
    remember(Common(as_json, url, api_key, data))


def main() -> None:
    """The entry point; ends the process with the command's exit code."""
    if "--json" not in sys.argv:
        app()
        return
    try:
        code = app(standalone_mode=False)
    except Exception as error:
        # a usage error; which class it is depends on the version of typer
        words = getattr(error, "format_message", None)
        if words is None:
            raise
        refused = CliError(words() or "a command is missing; --help lists them", code="usage")
        report(Output(as_json=True), refused)
        code = refused.exit_code
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
