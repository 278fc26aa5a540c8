"""Which runs are meant, one or many: what `runs list`, `cancel`, `replay` and `dismiss` have in common."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Optional

import typer

from samovar.cli import bulks, projects
from samovar.cli.command import Cli
from samovar.cli.errors import CliError
from samovar.values.units import parse_duration

RunsArgument = Annotated[
    Optional[list[str]], typer.Argument(help="Ids of runs; none where options say which.", metavar="RUN...")
]
StatusOption = Annotated[Optional[list[str]], typer.Option(help="All runs of this status; may be repeated.")]
TaskOption = Annotated[Optional[str], typer.Option(help="All runs of this task.")]
ProjectOption = Annotated[Optional[str], projects.only_option("All runs of this project, where no ids are given")]
TagOption = Annotated[Optional[list[str]], typer.Option(help="All runs with this tag; may be repeated.")]
SinceOption = Annotated[Optional[str], typer.Option(help='None older than this: "2h", or a time in ISO 8601.')]
DeadOption = Annotated[bool, typer.Option("--dead-letter", help="All runs of the dead-letter list.")]
ErrorOption = Annotated[Optional[str], typer.Option(help="All runs that ended with this error: its fingerprint.")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Only say which runs are meant.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before changing many runs.")]
GraceOption = Annotated[
    Optional[str],
    typer.Option(help='The server does it, after so long ("10s"): until then it may be taken back.'),
]

_PAGE = 200


def conditions(
    status: list[str] | None,
    task: str | None,
    project: str | None,
    tag: list[str] | None,
    since: str | None,
    dead_letter: bool = False,
    error: str | None = None,
) -> dict[str, Any]:
    """Which runs are meant, as the API takes it. Raises CliError for a time that is none."""
    return {
        "status": status,
        "task": task,
        "project": project,
        "tags": tag,
        "since": since_of(since),
        "dead_letter": dead_letter,
        "error": error,
    }


def since_of(text: str | None) -> str | None:
    """The time that `--since` and its like mean, in ISO 8601. Raises CliError."""
    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError:
        try:
            at = datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError:
            message = f'{text!r} is neither a duration such as "2h" nor a time such as 2026-01-31T12:00:00Z'
            raise CliError(f"--since: {message}", fields=[{"path": "since", "message": message}]) from None
        return (at if at.tzinfo else at.astimezone()).isoformat()
    return (datetime.now(timezone.utc) - timedelta(seconds=seconds)).isoformat()


def single(runs: list[str] | None, conditions: dict[str, Any]) -> str | None:
    """The one run that is named, and nothing else; None where it is about several. Raises CliError for none."""
    if not runs and not any(conditions.values()):
        message = "give ids, or say which runs: --status, --task, --tag, --since, --dead-letter, --error"
        raise CliError(message, fields=[{"path": "RUN", "message": message}])
    return runs[0] if runs and len(runs) == 1 and not any(conditions.values()) else None


def many(
    cli: Cli,
    action: str,
    runs: list[str] | None,
    conditions: dict[str, Any],
    *,
    dry_run: bool,
    yes: bool,
    grace: str | None = None,
    **body: Any,
) -> None:
    """Do `action` to all runs that fit, page by page, and print what became of each."""
    if not runs:
        # runs that are named by their ids are meant, wherever the command is typed
        conditions = {**conditions, "project": projects.narrowed(cli.output, conditions["project"])}
    wanted = {name: value for name, value in {**conditions, "runs": runs}.items() if value}
    found: list[dict[str, Any]] = []
    if grace is not None and not dry_run:
        # what may be taken back is not asked about
        bulks.asked(cli, action, wanted, grace, **body)
        return
    with cli.api() as api:
        if not (dry_run or yes or cli.as_json or runs):
            count = len(_pages(api, action, {"filter": wanted, "dry_run": True}))
            if not count or not typer.confirm(f"{action} {count} runs?", err=True):
                cli.output.say("nothing was changed")
                return
        found = _pages(api, action, {"filter": wanted, "dry_run": dry_run, **body})
    if cli.as_json:
        cli.output.document({"items": found, "next": None})
        return
    cli.output.table(
        ("run", "task", "status", "replay", "problem"),
        [
            (item["run"], item["task"], item["status"], item.get("replay") or "", item.get("problem") or "")
            for item in found
        ],
        empty="no run fits",
    )


def _pages(api: Any, action: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = api.post(f"/runs/{action}", {**body, "cursor": cursor, "limit": _PAGE})
        found += page["items"]
        cursor = page.get("next")
        if cursor is None:
            return found
