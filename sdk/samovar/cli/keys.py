"""`samovar keys`: make them, list them, revoke them."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

from typing import Annotated, Optional
from urllib.parse import quote

import typer

from samovar.cli.command import Cli
from samovar.cli.output import ago


def create_key(
    cli: Cli,
    name: Annotated[str, typer.Argument(help="What it is for, such as shop-frontend.")],
    role: Annotated[
        str,
        typer.Option(
            help="trigger (make runs, send events, follow these runs), read (look at everything), admin, or "
            "runner (for another host)."
        ),
    ] = "trigger",
    project: Annotated[Optional[str], typer.Option(help="The one project it sees; default: every project.")] = None,
) -> None:
    """Make a key. It is shown now and never again."""
    with cli.api() as api:
        key = api.post("/keys", {"name": name, "role": role, "project": project})
    if cli.as_json:
        cli.output.document(key)
        return
    cli.output.line(key["key"])
    cli.output.say(f"keep it now: nothing shows it again. `samovar keys revoke {name}` ends it")


def list_keys(cli: Cli) -> None:
    """List the keys, without themselves."""
    with cli.api() as api:
        found = list(api.items("/keys"))
    if cli.as_json:
        cli.output.document({"items": found, "next": None})
        return
    cli.output.table(
        ("name", "role", "project", "created", "revoked", "id"),
        [
            (
                str(key["name"]),
                str(key["role"]),
                str(key["project"] or "all"),
                ago(key["created_at"]),
                ago(key["revoked_at"]),
                str(key["id"]),
            )
            for key in found
        ],
        empty="no keys",
    )


def revoke_key(cli: Cli, key: Annotated[str, typer.Argument(help="Its name or id.", metavar="KEY")]) -> None:
    """End a key, for good."""
    with cli.api() as api:
        ended = api.delete(f"/keys/{quote(key, safe='')}")
    if cli.as_json:
        cli.output.document(ended)
    else:
        cli.output.say(f"{ended['name']} is revoked")
