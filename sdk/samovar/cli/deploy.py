"""`samovar deploy`: pack the project, hand it in, watch the build."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from samovar.cli.api import POLL, Api
from samovar.cli.command import Cli
from samovar.cli.errors import CliError
from samovar.cli.output import Output, duration
from samovar.cli.pack import Packed, pack
from samovar.values.units import format_memory


def deploy(
    cli: Cli,
    path: Annotated[Path, typer.Argument(help="The project: a directory with samovar.toml.")] = Path("."),
    promote: Annotated[
        bool, typer.Option("--promote/--no-promote", help="Let new runs use this version once it is built.")
    ] = True,
    force: Annotated[
        bool, typer.Option("--force", help="Promote it also where that breaks something for runs under way.")
    ] = False,
) -> None:
    """Build a project and make it the current version."""
    packed = pack(path)
    with cli.api() as api:
        cli.output.say(f"uploading {packed.project}: {packed.files} files, {max(1, len(packed.data) // 1024)} KiB")
        deployment = watch(api, cli.output, hand_in(api, packed, promote=promote, force=force))
    check(deployment, promote=promote)
    show(cli.output, deployment, promoted=bool(deployment["current"]))


def hand_in(api: Api, packed: Packed, *, promote: bool = True, force: bool = False) -> dict[str, Any]:
    """Upload a packed project; gives the deployment whose build begins."""
    options = {"promote": promote, "force": force}
    deployment: dict[str, Any] = api.upload(
        "/deployments", packed.data, **{name: str(value).lower() for name, value in options.items()}
    )
    return deployment


def check(deployment: dict[str, Any], *, promote: bool = True) -> None:
    """Raises CliError where the build failed, or the version was to be promoted and could not be."""
    if deployment["status"] == "failed":
        error = deployment.get("error") or {}
        raise CliError(
            str(error.get("message") or "the build failed"),
            code=str(error.get("code") or "build_failed"),
            fields=list(error.get("fields") or []),
        )
    blocking = [finding for finding in deployment.get("findings") or [] if finding["blocks"]]
    if promote and blocking and not deployment["current"]:
        raise CliError(
            f"{deployment['project']} {deployment['version']} is ready and was not promoted: "
            + "; ".join(finding["message"] for finding in blocking)
            + f". If that is meant: samovar deployments promote {deployment['version']} --force",
            code="breaks_runs",
            fields=[{"path": finding["task"], "message": finding["message"]} for finding in blocking],
        )


def watch(api: Api, output: Output, deployment: dict[str, Any]) -> dict[str, Any]:
    """Print the build's log as it comes; gives the deployment when the build has ended."""
    with output.status(f"building {deployment['project']} {deployment['version']}"):
        for line in build_log(api, deployment):
            print_build_line(output, line)
    found: dict[str, Any] = api.patient_get(f"/deployments/{deployment['id']}")
    return found


def build_log(api: Api, deployment: dict[str, Any]) -> Iterator[str]:
    """The lines of a build as they come, until it has ended."""
    after: str | None = None
    while True:
        page = api.patient_get(f"/deployments/{deployment['id']}/log", after=after, timeout=POLL)
        yield from (str(line["message"]) for line in page["items"])
        after = page["next"]
        if page["done"]:
            return


def print_build_line(output: Output, line: str) -> None:
    """A line of a build's log, on stderr."""
    output.note(f"  {line}", "dim")


def show(output: Output, deployment: dict[str, Any], *, promoted: bool) -> None:
    """Print a finished deployment: what was built, and its tasks."""
    if output.as_json:
        names = ("project", "version", "image", "tasks", "findings")
        output.document({name: deployment.get(name) for name in names})
        return
    show_findings(output, deployment)
    state = "current" if promoted else "not promoted: `samovar deployments promote` makes it current"
    output.line(f"{deployment['project']} {deployment['version']} is ready ({state})", "green")
    output.table(
        ("task", "memory", "timeout", "attempts", "payload"),
        [_row(task) for task in deployment.get("tasks") or []],
        empty="it has no tasks",
    )


def show_findings(output: Output, deployment: dict[str, Any]) -> None:
    """Print what a deployment changes for runs under way and for callers."""
    for finding in deployment.get("findings") or []:
        output.warn(str(finding["message"]))


def _row(task: dict[str, Any]) -> tuple[str, ...]:
    options = task.get("options") or {}
    properties = (task.get("schema") or {}).get("properties") or {}
    required = set((task.get("schema") or {}).get("required") or [])
    memory, timeout = options.get("memory"), options.get("timeout")
    return (
        str(task.get("id")),
        format_memory(memory) if isinstance(memory, int) else "",
        duration(timeout) if isinstance(timeout, (int, float)) else "",
        str((options.get("retry") or {}).get("max_attempts") or ""),
        ", ".join(name if name in required else f"[{name}]" for name in properties),
    )
