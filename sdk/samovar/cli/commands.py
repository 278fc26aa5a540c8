"""Which commands there are. A module is imported when a command of it is asked for, or all are to be listed."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from typing import Annotated, Optional

import typer

import samovar
from samovar.cli.command import Common, DataOption, JsonOption, KeyOption, UrlOption, command, remember

#: name → where the function is, below samovar.cli
COMMANDS = {
    "init": "init.init",
    "up": "up.up",
    "dev": "dev.dev",
    "deploy": "deploy.deploy",
    "trigger": "trigger.trigger",
    "checkpoints": "checkpoints.list_checkpoints",
    "audit": "audit.show_audit",
    "pool": "pool.show_pool",
    "top": "top.top",
    "open": "opening.open_dashboard",
    "tasks": "tasks.list_tasks",
    "doctor": "doctor.doctor",
}
#: name → what it is about, and its commands
GROUPS = {
    "runs": (
        "Look at runs, wait for them, cancel them, run them again.",
        {
            "list": "runs.list_runs",
            "show": "runs.show_run",
            "attempts": "runs.list_attempts",
            "trace": "tracing.show_trace",
            "logs": "runs.show_logs",
            "cancel": "run_acts.cancel_run",
            "bump": "run_acts.bump_run",
            "release-key": "run_acts.release_key",
            "replay": "run_acts.replay_run",
            "dismiss": "run_acts.dismiss_run",
            "wait": "run_acts.wait_for_run",
            "why": "runs.explain_run",
            "files": "files.show_files",
        },
    ),
    "bulk": (
        "What is done with many runs at once, and taking it back.",
        {
            "list": "bulks.list_bulks",
            "show": "bulks.show_bulk",
            "take-back": "bulks.take_back",
        },
    ),
    "errors": (
        "Errors in groups: what fails, how often, since which version.",
        {
            "list": "groups.list_errors",
            "show": "groups.show_error",
            "resolve": "groups.resolve_error",
            "mute": "groups.mute_error",
            "reopen": "groups.reopen_error",
        },
    ),
    "hosts": (
        "Machines that run tasks.",
        {
            "token": "hosts.make_token",
            "list": "hosts.list_hosts",
            "drain": "hosts.drain_host",
        },
    ),
    "events": (
        "Send events to the tasks that listen to them.",
        {
            "send": "events.send_event",
            "list": "events.list_events",
        },
    ),
    "keys": (
        "What opens this install to programs and people.",
        {
            "create": "keys.create_key",
            "list": "keys.list_keys",
            "revoke": "keys.revoke_key",
        },
    ),
    "webhooks": (
        "Addresses for requests from outside, and what came in.",
        {
            "list": "webhooks.list_deliveries",
            "show": "webhooks.show_delivery",
            "replay": "webhooks.replay_delivery",
            "urls": "webhooks.list_webhooks",
        },
    ),
    "secrets": (
        "Texts that nothing shows again.",
        {
            "set": "secrets.set_secret",
            "list": "secrets.list_secrets",
            "rm": "secrets.remove_secret",
            "rotate": "secrets.rotate_key",
        },
    ),
    "tokens": (
        "End the waits of runs that asked for a token.",
        {
            "complete": "tokens.complete_token",
        },
    ),
    "queues": (
        "How many runs execute at once, and changing that live.",
        {
            "list": "queues.list_queues",
            "set": "queues.set_queue",
            "pause": "queues.pause_queue",
            "resume": "queues.resume_queue",
        },
    ),
    "deployments": (
        "Versions of a project, and which of them new runs use.",
        {
            "list": "deployments.list_deployments",
            "promote": "deployments.promote",
            "rollback": "deployments.rollback",
            "rebuild": "deployments.rebuild",
        },
    ),
    "schedules": (
        "When tasks run by themselves.",
        {
            "list": "schedules.list_schedules",
            "next": "schedules.next_ticks",
            "create": "schedules.create_schedule",
            "delete": "schedules.delete_schedule",
            "pause": "schedules.pause",
            "resume": "schedules.resume",
        },
    ),
    "images": (
        "The base image that projects are built on.",
        {
            "base": "images.base_image",
        },
    ),
}


def application(words: Collection[str] = ()) -> typer.Typer:
    """The commands that `words`, those of a command line, may mean: those of each name among them, all if none is.

    A value that is a command's name too (`--data up`) brings that in beside the one that is meant.
    """
    wanted = ({*COMMANDS, *GROUPS} & set(words)) or {*COMMANDS, *GROUPS}
    app = typer.Typer(
        name="samovar",
        help="Run untrusted or heavy Python tasks, each in its own container.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.callback(invoke_without_command=True)(options)
    for name, (about, commands) in GROUPS.items():
        if name in wanted:
            group = typer.Typer(help=about, no_args_is_help=True)
            _add(group, commands)
            app.add_typer(group, name=name)
    _add(app, {name: place for name, place in COMMANDS.items() if name in wanted})
    return app


def _add(app: typer.Typer, commands: Mapping[str, str]) -> None:
    for name, place in commands.items():
        module, _, function = place.partition(".")
        command(app, name)(getattr(importlib.import_module(f"samovar.cli.{module}"), function))


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
