"""`samovar secrets`: set them from stdin, list their names, remove them."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

import getpass
import sys
from typing import Annotated, Optional
from urllib.parse import quote

import typer

from samovar.cli import projects
from samovar.cli.command import Cli
from samovar.cli.errors import CliError
from samovar.cli.output import ago

NameArgument = Annotated[str, typer.Argument(help="Its name, such as an environment variable has.")]
ProjectOption = Annotated[Optional[str], projects.only_option("The project it belongs to")]


def set_secret(cli: Cli, name: NameArgument, project: ProjectOption = None) -> None:
    """Set a secret to what stdin says (without its last line end); asked for where stdin is a terminal."""
    value = _read()
    with cli.api() as api:
        secret = api.put(
            f"/secrets/{quote(name, safe='')}", {"value": value}, project=projects.narrowed(cli.output, project)
        )
    if cli.as_json:
        cli.output.document(secret)
    else:
        cli.output.say(
            f"{secret['name']} of {secret['project'] or 'every project'} is set; nothing shows its value"
        )


def list_secrets(
    cli: Cli, project: Annotated[Optional[str], projects.only_option("Only what this project can use")] = None
) -> None:
    """List the names of secrets."""
    with cli.api() as api:
        found = list(api.items("/secrets", project=projects.narrowed(cli.output, project)))
    if cli.as_json:
        cli.output.document({"items": found, "next": None})
        return
    cli.output.table(
        ("name", "project", "created", "updated"),
        [(str(s["name"]), str(s["project"] or "all"), ago(s["created_at"]), ago(s["updated_at"])) for s in found],
        empty="no secrets; `samovar secrets set NAME` reads one from stdin",
    )


def remove_secret(cli: Cli, name: NameArgument, project: ProjectOption = None) -> None:
    """Remove a secret."""
    with cli.api() as api:
        secret = api.delete(f"/secrets/{quote(name, safe='')}", project=projects.narrowed(cli.output, project))
    if cli.as_json:
        cli.output.document(secret)
    else:
        cli.output.say(f"{secret['name']} of {secret['project'] or 'every project'} is removed")


def _read() -> str:
    try:
        text = getpass.getpass("value: ") if sys.stdin.isatty() else sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError:
        raise _refused("stdin is not UTF-8") from None
    for end in ("\r\n", "\n"):
        if text.endswith(end):
            text = text[: -len(end)]
            break
    if not text:
        raise _refused("stdin is empty: give the value there, as in `samovar secrets set NAME < FILE`")
    return text


def _refused(message: str) -> CliError:
    return CliError(message, code="invalid_secret", fields=[{"path": "value", "message": message}])
