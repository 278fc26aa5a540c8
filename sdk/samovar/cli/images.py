"""`samovar images`: the base image that projects are built on."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated

import typer

from samovar.cli.command import Cli
from samovar.cli.server import require_server


def base_image(
    cli: Cli,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Anew, even where it is there.")] = False,
    bootstrap: Annotated[
        bool, typer.Option("--bootstrap", help="From Debian packages, whatever a registry has.")
    ] = False,
) -> None:
    """Pull the default base image, or make it from Debian packages."""
    require_server()
    flags = [("--rebuild", rebuild), ("--bootstrap", bootstrap), ("--json", cli.as_json)]
    command = [sys.executable, "-m", "images", "base", *(name for name, given in flags if given)]
    code = subprocess.run(command, check=False).returncode
    if code:
        raise typer.Exit(code)
