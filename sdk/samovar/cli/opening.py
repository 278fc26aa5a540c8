"""`samovar open`: the dashboard in a browser, signed in as the key that the command has."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

import json
import os
import sys
import webbrowser
from collections.abc import Mapping
from typing import Annotated, Any, Optional
from urllib.parse import quote

import typer

from samovar.cli.api import Api
from samovar.cli.command import Cli
from samovar.cli.errors import CliError, NotFound


def open_dashboard(
    cli: Cli,
    run: Annotated[
        Optional[str], typer.Argument(help="A run's id; without it, the first page.", metavar="RUN")
    ] = None,
    only_print: Annotated[bool, typer.Option("--print", help="Print the address, and open nothing.")] = False,
) -> None:
    """Open the dashboard, or a run's page, in a browser. The address signs in once, and not for long."""
    with cli.api() as api:
        path = "/"
        if run is not None:
            # one that is not there is said here, and not by a page
            api.get(f"/runs/{quote(run, safe='')}")
            path = f"/runs/{quote(run, safe='')}"
        link = _link(api, path)
    if cli.as_json:
        cli.output.document(link)
        return
    if not only_print and has_display(os.environ) and _opened(link["url"]):
        cli.output.say(f"opened {api.credentials.url}{path} in a browser")
        return
    cli.output.line(link["url"])
    cli.output.say(
        f"it signs in once, until {link['expires_at']}, on the coordinator's own host: give it to nobody"
    )


def _link(api: Api, path: str) -> dict[str, Any]:
    """`{url, expires_at}`, checked: what comes from another place is not opened."""
    try:
        found = api.post("/dashboard/link", {"path": path})
    except NotFound as error:
        if error.code != "not_found":
            raise
        raise CliError(
            f"the coordinator at {api.credentials.url} has no dashboard: it is of an earlier version; update it, "
            "or use `samovar top`",
            code="no_dashboard",
        ) from None
    url = str(found.get("url")) if isinstance(found, dict) and isinstance(found.get("expires_at"), str) else ""
    # what else a browser can be told to open is no page
    if not url.startswith(("http://", "https://")):
        shown = json.dumps(found)[:200]
        raise CliError(f"what {api.credentials.url} answered is no address of a dashboard: {shown}")
    return dict(found)


def has_display(environ: Mapping[str, str], platform: str = sys.platform) -> bool:
    """Whether a browser would be seen by whoever typed the command; one that BROWSER names is meant to be used."""
    if any(environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")):
        return True
    return platform in ("darwin", "win32") and not environ.get("SSH_CONNECTION")


def _opened(url: str) -> bool:
    try:
        return webbrowser.open(url)
    except webbrowser.Error:
        return False
