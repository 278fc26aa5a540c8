"""`samovar webhooks`: the addresses, what came in at them, and replaying it."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any, Optional
from urllib.parse import quote

import typer

from samovar.cli import projects
from samovar.cli.command import Cli
from samovar.cli.output import ago

ProjectOption = Annotated[Optional[str], projects.only_option("Only of this project")]
DeliveryArgument = Annotated[str, typer.Argument(help="The delivery's id.", metavar="DELIVERY")]


def list_deliveries(
    cli: Cli,
    status: Annotated[
        Optional[str], typer.Option(help="Only delivered ones (with a run), or dead ones (without).")
    ] = None,
    project: ProjectOption = None,
    webhook: Annotated[Optional[str], typer.Option(help="Only at this path.", metavar="PATH")] = None,
    limit: Annotated[int, typer.Option(min=1, max=5000, help="How many.")] = 20,
) -> None:
    """List what came in at webhooks, newest first."""
    project = projects.narrowed(cli.output, project)
    wanted = {"status": status, "project": project, "webhook": webhook, "limit": min(limit, 500)}
    with cli.api() as api:
        found = list(islice(api.items("/deliveries", **wanted), limit))
    if cli.as_json:
        cli.output.document({"items": found, "next": None})
        return
    cli.output.table(
        ("id", "webhook", "delivery", "status", "received", "run", "problem"),
        [
            (
                str(item["id"]),
                f"{item['project']}/{item['webhook']}",
                str(item["delivery_id"]),
                str(item["status"]),
                ago(item["received_at"]),
                str(item["run"] or ""),
                str(item["problem"] or ""),
            )
            for item in found
        ],
        empty="no deliveries; `samovar webhooks urls` says where they would come in",
    )


def show_delivery(cli: Cli, delivery: DeliveryArgument) -> None:
    """Show a delivery as it came: headers and body."""
    with cli.api() as api:
        item = api.get(f"/deliveries/{quote(delivery, safe='')}")
    if cli.as_json:
        cli.output.document(item)
        return
    names = ("id", "delivery_id", "status", "problem", "run", "task", "scheme", "received_at")
    cli.output.pairs((name, str(item[name] or "")) for name in names)
    cli.output.pairs((name, str(value)) for name, value in item["headers"].items())
    cli.output.line(item["body"])


def replay_delivery(cli: Cli, delivery: DeliveryArgument) -> None:
    """Make a new run of a delivery, on the current deployment."""
    with cli.api() as api:
        item = api.post(f"/deliveries/{quote(delivery, safe='')}/replay")
    if cli.as_json:
        cli.output.document(item)
    else:
        cli.output.line(item["run"])


def list_webhooks(cli: Cli, project: ProjectOption = None) -> None:
    """List the webhooks of the current deployments: where they are, and whether they check signatures."""
    with cli.api() as api:
        found = list(api.items("/webhooks", project=projects.narrowed(cli.output, project)))
    if cli.as_json:
        cli.output.document({"items": found, "next": None})
        return
    cli.output.table(
        ("url", "task", "signature", "refused", "last refused"),
        [
            (
                str(item["url"]),
                f"{item['project']}/{item['task']}",
                _signature(item),
                str(item["refused"] or ""),
                f"{ago(item['refused_at'])}: {item['refused_reason']}" if item["refused"] else "",
            )
            for item in found
        ],
        empty="no webhooks; @task(webhook=Webhook(...)) gives a task one",
    )


def _signature(item: dict[str, Any]) -> str:
    if not item["signed"]:
        return "unsigned"
    state = "" if item["secret_set"] else ", not set"
    return f"{item['scheme'] or 'by its headers'} ({item['secret']}{state})"
