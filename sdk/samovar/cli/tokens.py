"""`samovar tokens`: end the wait of a run that asked for a token."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

from typing import Annotated, Optional
from urllib.parse import quote

import typer

from samovar.cli.command import Cli
from samovar.cli.trigger import read_json


def complete_token(
    cli: Cli,
    id: Annotated[str, typer.Argument(help="The token's id.", metavar="ID")],
    payload: Annotated[
        Optional[str], typer.Option(help="What the run gets, as JSON; @FILE reads a file, - reads stdin.")
    ] = None,
) -> None:
    """Complete a token: the run that waits for it goes on with the payload."""
    value = None if payload is None else read_json(payload)
    with cli.api() as api:
        answer = api.post(f"{api.credentials.url}/tokens/{quote(id, safe='')}", value)
    if cli.as_json:
        cli.output.document(answer)
        return
    cli.output.say("completed; the run goes on")
