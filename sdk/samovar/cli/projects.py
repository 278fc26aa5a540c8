"""Which project a command is about: the flag, else the samovar.toml here, else the only one that the key sees."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from samovar.cli.api import Api
from samovar.cli.errors import CliError
from samovar.cli.output import Output
from samovar.cli.pack import CONFIG_NAME, read_config

#: Given as --project: every project, also in the folder of one.
EVERY = "*"
#: Deployments asked for at once, while looking which projects there are.
_PAGE = 500

OneOption = Annotated[
    Optional[str],
    typer.Option(
        "--project", help="The project; by default that of the samovar.toml here, else the only one there is."
    ),
]


def only_option(what: str) -> typer.models.OptionInfo:
    """--project of a command that is about every project where neither the flag nor a samovar.toml names one."""
    option: typer.models.OptionInfo = typer.Option(
        "--project", help=f"{what}; by default that of the samovar.toml here. '{EVERY}': every project."
    )
    return option


def here() -> str | None:
    """The project of the samovar.toml in the current folder; None where there is no such file.

    Raises CliError where there is one that names no project: what is in the way is said, not passed over.
    """
    if not Path(CONFIG_NAME).exists():
        return None
    try:
        return str(read_config(Path("."))["project"]["name"])
    except CliError as error:
        raise CliError(
            f"which project? {error.message}; set that right, or give --project NAME",
            code=error.code,
            fields=error.fields,
        ) from None


def one(api: Api, given: str | None) -> str:
    """The one project that a command is about. Raises CliError where there are several to choose from, or none."""
    name = given or here()
    if name is not None:
        return name
    names = {str(item["project"]) for item in api.items("/deployments", limit=_PAGE)}
    if len(names) == 1:
        return names.pop()
    if not names:
        message = f"which project? There is no {CONFIG_NAME} here, and nothing is deployed yet; give --project NAME"
    else:
        message = (
            f"which project? There is no {CONFIG_NAME} here, and there are several: give --project with one of "
            + ", ".join(sorted(names))
        )
    raise CliError(message, code="no_project", fields=[{"path": "project", "message": message}])


def narrowed(output: Output, given: str | None) -> str | None:
    """The project that a command keeps to, None for every project. Says so where the samovar.toml here decides."""
    if given is not None:
        return None if given == EVERY else given
    name = here()
    if name is not None:
        output.say(f"project {name}, by the {CONFIG_NAME} here; --project '{EVERY}' is every project")
    return name
