"""`samovar trigger`: start a run, and where asked wait for it."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Optional
from urllib.parse import quote

import typer

from samovar.cli import files, watching
from samovar.cli.command import Cli
from samovar.cli.errors import CliError
from samovar.cli.output import ago
from samovar.values.units import parse_duration


def trigger(
    cli: Cli,
    task: Annotated[str, typer.Argument(help="The task's id, or PROJECT/TASK.")],
    payload: Annotated[
        Optional[str], typer.Option(help="The task's arguments as JSON; @FILE reads a file, - reads stdin.")
    ] = None,
    file: Annotated[
        Optional[list[str]],
        typer.Option(metavar="NAME=@PATH", help="An argument that is a file, which is sent; may be repeated."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the run has ended; exit code 1 if it failed.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Show the run's logs as they come, and wait.")] = False,
    idempotency_key: Annotated[
        Optional[str], typer.Option(help="The same key starts the same run only once.", metavar="KEY")
    ] = None,
    idempotency_ttl: Annotated[
        Optional[str], typer.Option(help='How long the key is kept, e.g. "1d"; default: as long as the run.')
    ] = None,
    delay: Annotated[Optional[str], typer.Option(help='Start later, e.g. "10s", "2h".')] = None,
    ttl: Annotated[Optional[str], typer.Option(help="Give up if the run has not started by then.")] = None,
    priority: Annotated[Optional[int], typer.Option(help="Seconds by which it goes before others.")] = None,
    concurrency_key: Annotated[
        Optional[str], typer.Option(help="What its queue counts it under.", metavar="KEY")
    ] = None,
    tag: Annotated[Optional[list[str]], typer.Option(help="A tag to find it by; may be repeated.")] = None,
    debounce: Annotated[
        Optional[str],
        typer.Option(help='Start when no trigger with the same --debounce-key has come for so long, e.g. "5s".'),
    ] = None,
    debounce_key: Annotated[
        Optional[str], typer.Option(help="Triggers with this key become one run.", metavar="KEY")
    ] = None,
    memory: Annotated[
        Optional[str], typer.Option(help='More or less memory than the task says, e.g. "1g".')
    ] = None,
    version: Annotated[Optional[str], typer.Option(help="A version other than the current one.")] = None,
) -> None:
    """Start a run of a task."""
    body: dict[str, Any] = {
        "payload": read_payload(payload),
        "idempotency_key": idempotency_key,
        "idempotency_ttl": _seconds("idempotency-ttl", idempotency_ttl),
        "delay": _seconds("delay", delay),
        "ttl": _seconds("ttl", ttl),
        "priority": priority,
        "concurrency_key": concurrency_key,
        "tags": tag or None,
        "debounce": _debounce(debounce_key, debounce),
        "memory": memory,
        "version": version,
    }
    with cli.api() as api:
        files.send(api, cli.output, file or [], body["payload"])
        body = {name: value for name, value in body.items() if value is not None}
        run, created = api.create(f"/tasks/{quote(task, safe='/')}/runs", body)
        if not created and idempotency_key is not None:
            cli.output.say(
                f"nothing was started: this key's run is an earlier one, {run['id']} ({run['status']}, triggered "
                f"{ago(run['created_at'])}); samovar runs release-key {run['id']} frees the key"
            )
        finish(cli, api, run, wait=wait, follow=follow)


def finish(cli: Cli, api: Any, run: dict[str, Any], *, wait: bool, follow: bool) -> None:
    """Print a run that was started, at once or, where asked, when it has ended."""
    if not (wait or follow):
        if cli.as_json:
            cli.output.document(run)
        else:
            cli.output.line(run["id"])
            cli.output.say(f"{run['task']} {run['version']} is {run['status']}; samovar runs show {run['id']}")
        return
    cli.output.say(f"run {run['id']}")
    run = watching.follow(api, cli.output, run) if follow else watching.wait(api, cli.output, run)
    watching.conclude(cli.output, run)


def read_payload(text: str | None) -> dict[str, Any]:
    """The payload in `text`: JSON, @FILE or - for stdin. Raises CliError where it is no JSON object."""
    payload = read_json(text)
    if not isinstance(payload, dict):
        raise _refused(
            f"the payload is a JSON {type(payload).__name__}; the task's arguments by name are wanted, "
            'as in {"order_id": "1"}'
        )
    return payload


def read_json(text: str | None) -> Any:
    """The value in `text`: JSON, @FILE or - for stdin; {} for none. Raises CliError where it is no JSON."""
    if text is None:
        return {}
    source = "--payload"
    try:
        if text == "-":
            source, text = "stdin", sys.stdin.buffer.read().decode("utf-8")
        elif text.startswith("@"):
            source = text[1:]
            text = Path(source).read_bytes().decode("utf-8")
    except OSError as error:
        raise _refused(f"{source} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise _refused(f"{source} is not UTF-8: {error}") from None
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        raise _refused(f"{source} is not JSON: {error}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no value in JSON")


def _refused(message: str) -> CliError:
    return CliError(message, code="invalid_payload", fields=[{"path": "payload", "message": message}])


def _debounce(key: str | None, delay: str | None) -> dict[str, Any] | None:
    if (key is None) != (delay is None):
        missing = "debounce" if delay is None else "debounce-key"
        message = "--debounce and --debounce-key belong together"
        raise CliError(message, code="invalid_option", fields=[{"path": missing, "message": "missing"}])
    return None if key is None else {"key": key, "delay": _seconds("debounce", delay)}


def _seconds(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_duration(float(text) if text.replace(".", "", 1).isdigit() else text)
    except ValueError as error:
        raise CliError(
            f"--{option}: {error}", code="invalid_option", fields=[{"path": option, "message": str(error)}]
        ) from None
