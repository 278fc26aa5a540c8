"""`samovar hosts`: enrol machines that run tasks, list them, take one out of service."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from samovar.cli.command import Cli
from samovar.cli.output import ago


def make_token(
    cli: Cli,
    expires_in: Annotated[str, typer.Option(help="How long it may be used, 7d at most.")] = "1h",
) -> None:
    """Make a token that enrols one host, once. It is shown now and never again."""
    with cli.api() as api:
        made = api.post("/hosts/token", {"expires_in": expires_in})
    if cli.as_json:
        cli.output.document(made)
        return
    cli.output.line(made["token"])
    cli.output.say(
        f"start one runner with it within {expires_in}, as SAMOVAR_RUNNER_TOKEN or --token-file: "
        "it gets a key of its own"
    )


def list_hosts(cli: Cli) -> None:
    """List hosts, by the ids of their runners."""
    with cli.api() as api:
        found = list(api.items("/hosts"))
    if cli.as_json:
        cli.output.document({"items": found, "next": None})
        return
    cli.output.table(
        ("runner", "state", "seen", "attempts", "key"),
        [
            (
                str(host["runner"]),
                _state(host),
                ago(host["seen_at"]),
                str(host["attempts"]),
                str(host["key"] or "-"),
            )
            for host in found
        ],
        empty="no host has been there yet; `samovar hosts token` makes a token for one",
    )


def drain_host(
    cli: Cli,
    runner: Annotated[str, typer.Argument(help="The id of its runner.", metavar="RUNNER")],
    undo: Annotated[bool, typer.Option("--undo", help="Use it again.")] = False,
) -> None:
    """Give a host no new runs and builds; what it has goes on to its end."""
    path = f"/hosts/{quote(runner, safe='')}/drain"
    with cli.api() as api:
        host = api.delete(path) if undo else api.post(path)
    if cli.as_json:
        cli.output.document(host)
    elif undo:
        cli.output.say(f"{host['runner']} is used again")
    else:
        cli.output.say(f"{host['runner']} gets nothing new; it still has {host['attempts']} attempts")


def _state(host: dict[str, object]) -> str:
    if host["revoked_at"]:
        return "revoked"
    state = "alive" if host["alive"] else "away"
    return f"{state}, drained" if host["drained_at"] else state
