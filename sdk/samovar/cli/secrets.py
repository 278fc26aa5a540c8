"""`samovar secrets`: set them from stdin, list their names, remove them."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

import getpass
import io
import sys
from pathlib import Path
from typing import Annotated, Optional
from urllib.parse import quote

import typer
from dotenv.parser import parse_stream

from samovar.cli import projects
from samovar.cli.command import Cli
from samovar.cli.errors import CliError
from samovar.cli.output import ago

NameArgument = Annotated[str, typer.Argument(help="Its name, such as an environment variable has.")]
FILE = Annotated[
    Optional[Path],
    typer.Option(metavar="FILE", help="Set all that stands in this file instead: lines NAME=value, as in a .env."),
]
ProjectOption = Annotated[Optional[str], projects.only_option("The project it belongs to")]


def set_secret(
    cli: Cli,
    name: Annotated[
        Optional[str], typer.Argument(help="Its name, such as an environment variable has.", show_default=False)
    ] = None,
    project: ProjectOption = None,
    env_file: FILE = None,
) -> None:
    """Set a secret to what stdin says (without its last line end); asked for where stdin is a terminal."""
    if (name is None) == (env_file is None):
        message = "give a NAME, whose value stdin says, or --env-file FILE"
        raise CliError(message, code="usage", fields=[{"path": "name", "message": message}])
    values = _of_file(env_file) if env_file is not None else {str(name): _read()}
    place = projects.narrowed(cli.output, project)
    with cli.api() as api:
        found = [
            api.put(f"/secrets/{quote(each, safe='')}", {"value": value}, project=place)
            for each, value in values.items()
        ]
    if cli.as_json:
        cli.output.document(found[0] if env_file is None else {"items": found, "next": None})
        return
    for secret in found:
        cli.output.say(
            f"{secret['name']} of {secret['project'] or 'every project'} is set; nothing shows its value"
        )


def rotate_key(
    cli: Cli,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="Take the earlier keys away: backups sealed with them stay shut.")
    ] = False,
) -> None:
    """Make a new master key and seal every secret anew with it."""
    with cli.api() as api:
        done = api.post("/secrets/rotate", {"drop_old": drop_old})
    if cli.as_json:
        cli.output.document(done)
        return
    sealed = "1 secret is" if done["sealed"] == 1 else f"{done['sealed']} secrets are"
    cli.output.say(f"{sealed} sealed with the new master key {done['key']}")
    if done["unopened"]:
        cli.output.warn(f"{done['unopened']} could not be opened with any key: set them again")
    if done["dropped"]:
        cli.output.say(f"{done['dropped']} earlier keys are gone")


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


def _of_file(path: Path) -> dict[str, str]:
    """What a .env file sets. Nothing in it is replaced: a secret may have a dollar sign."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        message = f"{path}: {problem}"
        raise CliError(message, code="invalid_secret", fields=[{"path": "env_file", "message": message}]) from None
    values: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        if binding.error or (binding.key is not None and not binding.value):
            # the line itself may have a secret in it
            message = f"{path}, line {binding.original.line}: give NAME=value, and quote what has spaces or lines"
            raise CliError(message, code="invalid_secret", fields=[{"path": "env_file", "message": message}])
        if binding.key is not None and binding.value:
            values[binding.key] = binding.value
    if not values:
        raise _refused(f"{path} sets nothing: it has lines NAME=value")
    return values


def _refused(message: str) -> CliError:
    return CliError(message, code="invalid_secret", fields=[{"path": "value", "message": message}])
