"""`samovar errors`: errors that are alike, and what is to be heard of them."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

from typing import Annotated, Any, Optional
from urllib.parse import quote

import typer

from samovar.cli import projects
from samovar.cli.command import Cli
from samovar.cli.errors import CliError
from samovar.cli.output import ago, short

ErrorArgument = Annotated[
    str, typer.Argument(help="Its fingerprint, or PROJECT/FINGERPRINT.", metavar="FINGERPRINT")
]
ProjectOption = Annotated[
    Optional[str],
    typer.Option("--project", help="The project; by default that of the samovar.toml here."),
]

_BARS = " ▁▂▃▄▅▆▇█"


def list_errors(
    cli: Cli,
    project: Annotated[Optional[str], projects.only_option("Only errors of this project")] = None,
    status: Annotated[Optional[str], typer.Option(help="Only these: open, muted or resolved.")] = None,
    task: Annotated[Optional[str], typer.Option(help="Only those of this task.")] = None,
    since: Annotated[Optional[str], typer.Option(help='Only those seen since then: "2h", or a time.')] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 50,
) -> None:
    """List errors that are alike, the ones seen last first."""
    of = projects.narrowed(cli.output, project)
    with cli.api() as api:
        found = api.get("/errors", project=of, status=status, task=task, since=since, limit=limit)
    if cli.as_json:
        cli.output.document(found)
        return
    cli.output.table(
        (
            "fingerprint",
            "project",
            "status",
            "error",
            "count",
            "runs",
            "first seen",
            "last seen",
            "last 24 h",
            "version",
        ),
        [
            (
                error["fingerprint"],
                error["project"],
                _state(error),
                short(f"{error['type']}: {error['title']}", 70),
                str(error["count"]),
                str(error["runs"]),
                ago(error["first_seen"]),
                ago(error["last_seen"]),
                _spark(error["spark"]),
                error["last_version"],
            )
            for error in found["items"]
        ],
        empty="no errors",
    )


def show_error(cli: Cli, error: ErrorArgument, project: ProjectOption = None) -> None:
    """Show an error: what it is, where it was seen, and how to run again what it ended."""
    with cli.api() as api:
        found = api.get(_path(error, project))
    if cli.as_json:
        cli.output.document(found)
        return
    _print(cli, found)
    cli.output.say(
        f"its runs: samovar runs list --error {found['fingerprint']}; "
        f"once it is mended: samovar runs replay --error {found['fingerprint']} --dead-letter"
    )


def resolve_error(
    cli: Cli,
    error: ErrorArgument,
    version: Annotated[
        Optional[str], typer.Option(help="The version that no longer has it; default: the current one.")
    ] = None,
    project: ProjectOption = None,
) -> None:
    """Say that an error does not happen any more; it is open again once it is seen in this version or later."""
    _change(cli, error, project, "resolve", {} if version is None else {"version": version})


def mute_error(
    cli: Cli,
    error: ErrorArgument,
    until: Annotated[str, typer.Option(help='For how long, "7d", or until when.')],
    project: ProjectOption = None,
) -> None:
    """Hear nothing of an error for a time; it is counted as before."""
    _change(cli, error, project, "mute", {"until": until})


def reopen_error(cli: Cli, error: ErrorArgument, project: ProjectOption = None) -> None:
    """Take back that an error was resolved or muted."""
    _change(cli, error, project, "reopen", {})


def _change(cli: Cli, error: str, project: Optional[str], verb: str, body: dict[str, Any]) -> None:
    with cli.api() as api:
        found = api.post(f"{_path(error, project)}/{verb}", body)
    if cli.as_json:
        cli.output.document(found)
    else:
        cli.output.line(f"{found['project']}/{found['fingerprint']} is {_state(found)}")


def _path(error: str, project: Optional[str]) -> str:
    named, _, fingerprint = error.rpartition("/")
    of = named or project or projects.here()
    if not of:
        message = f"say of which project: {error!r} as PROJECT/{error}, or with --project"
        raise CliError(message, fields=[{"path": "FINGERPRINT", "message": message}])
    return f"/errors/{quote(of, safe='')}/{quote(fingerprint, safe='')}"


def _print(cli: Cli, error: dict[str, Any]) -> None:
    cli.output.pairs(
        [
            ("fingerprint", error["fingerprint"]),
            ("project", error["project"]),
            ("error", f"{error['type']}: {error['title']}"),
            ("status", _state(error)),
            ("count", f"{error['count']} ({error['runs']} runs ended by it)"),
            ("first seen", f"{error['first_seen']} ({ago(error['first_seen'])})"),
            ("last seen", f"{error['last_seen']} ({ago(error['last_seen'])}) in {error['last_version']}"),
            ("last 24 h", _spark(error["spark"])),
            ("tasks", ", ".join(error["tasks"])),
            ("versions", ", ".join(error["versions"])),
            ("last run", error["last_run"]),
        ]
    )


def _state(error: dict[str, Any]) -> str:
    if error["status"] == "resolved":
        return f"resolved in {error['resolved_version']}" if error["resolved_version"] else "resolved"
    if error["status"] == "muted":
        return f"muted until {error['muted_until']}"
    return f"open again since {error['reopened_at']}" if error["reopened_at"] else "open"


def _spark(counts: list[int]) -> str:
    """A bar for each hour, as high as it has errors."""
    most = max([1, *counts])
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // most)] for count in counts).rstrip()
