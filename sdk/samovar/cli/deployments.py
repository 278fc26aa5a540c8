"""`samovar deployments`: versions of a project, and which of them new runs use."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

from typing import Annotated, Any, Optional
from urllib.parse import quote

import typer

from samovar.cli import projects
from samovar.cli.command import Cli
from samovar.cli.deploy import show_findings
from samovar.cli.errors import NotFound
from samovar.cli.output import ago


def list_deployments(
    cli: Cli,
    project: Annotated[Optional[str], projects.only_option("Only of this project")] = None,
) -> None:
    """List deployments, the newest first."""
    with cli.api() as api:
        found = api.get("/deployments", project=projects.narrowed(cli.output, project))
    if cli.as_json:
        cli.output.document(found)
        return
    cli.output.table(
        ("project", "version", "status", "current", "tasks", "created", "error"),
        [
            (
                item["project"],
                item["version"],
                _status(item),
                "current" if item.get("current") else "",
                ", ".join(str(task.get("id")) for task in item.get("tasks") or []),
                ago(item["created_at"]),
                str((item.get("error") or item.get("rebuild_error") or {}).get("message") or ""),
            )
            for item in found["items"]
        ],
        empty="no deployments yet; `samovar deploy` makes one",
    )


def _status(item: dict[str, Any]) -> str:
    if item.get("rebuild_due_at"):
        return "image missing" if item.get("rebuild_error") else "rebuilding"
    return "image removed" if item.get("image_removed_at") else str(item["status"])


def promote(
    cli: Cli,
    version: Annotated[str, typer.Argument(help="The version (YYYYMMDD.N), or a deployment's id.")],
    project: projects.OneOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also where that breaks something for runs under way.")
    ] = False,
) -> None:
    """Make a version the one that new runs use."""
    with cli.api() as api:
        path = f"/deployments/{_identifier(api, version, project)}/promote"
        deployment = api.post(path, force="true" if force else None)
    _show(cli, deployment)


def rollback(cli: Cli, project: projects.OneOption = None) -> None:
    """Go back to the version that was current before."""
    with cli.api() as api:
        deployment = api.post(f"/projects/{quote(projects.one(api, project), safe='')}/rollback")
    _show(cli, deployment)


def rebuild(
    cli: Cli,
    version: Annotated[str, typer.Argument(help="The version, or the deployment's id.", metavar="VERSION")],
    project: projects.OneOption = None,
) -> None:
    """Build the image of a version again from the kept source, e.g. when it was pruned."""
    with cli.api() as api:
        deployment = api.post(f"/deployments/{_identifier(api, version, project)}/rebuild")
    if cli.as_json:
        cli.output.document(deployment)
    else:
        cli.output.line(f"{deployment['project']} {deployment['version']} is built again")


def _show(cli: Cli, deployment: dict[str, Any]) -> None:
    if cli.as_json:
        cli.output.document(deployment)
    else:
        show_findings(cli.output, deployment)
        cli.output.line(f"{deployment['project']} {deployment['version']} is current")


def _identifier(api: Any, version: str, project: str | None) -> str:
    # an id is taken as it is; a version is one of a project
    if "." not in version:
        return version
    name = projects.one(api, project)
    for item in api.items("/deployments", project=name):
        if item["version"] == version:
            return str(item["id"])
    raise NotFound(f"project {name!r} has no version {version!r}; see `samovar deployments list`")
