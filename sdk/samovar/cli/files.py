"""Files of runs: those that `trigger --file` sends, and `samovar runs files`."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Optional
from urllib.parse import quote

import typer

from samovar.calling import files
from samovar.cli.api import Api
from samovar.cli.command import Cli
from samovar.cli.errors import CliError
from samovar.cli.output import ago
from samovar.errors import FileMissing
from samovar.values.file import REFERENCE


def send(api: Api, output: Any, given: list[str], payload: dict[str, Any]) -> None:
    """Uploads what `--file NAME=@PATH` names, and puts references to it into the payload."""
    for text in given:
        name, equals, path = text.partition("=")
        path = path.removeprefix("@")
        if not (name and equals and path):
            raise _refused(f"--file {text}: give NAME=@PATH, as in data=@table.csv")
        if name in payload:
            raise _refused(f"--file {text}: the payload has {name!r} already")
        try:
            known = files.upload(api, path)
        except OSError as error:
            raise _refused(f"{path}: {error.strerror or error}") from None
        output.say(f"{path}: {_bytes(known['size'])} sent")
        payload[name] = {REFERENCE: known["id"], "name": known["name"], "size": known["size"]}


def show_files(
    cli: Cli,
    run: Annotated[str, typer.Argument(help="The run's id.")],
    save: Annotated[
        Optional[Path], typer.Option(metavar="DIR", help="Write them into this folder, which is made if need be.")
    ] = None,
) -> None:
    """List the files that a run keeps, or save them."""
    with cli.api() as api:
        found = list(api.items(f"/runs/{quote(run, safe='')}/files"))
        folder = None if save is None else os.fspath(save)
        for file in found if folder is not None else []:
            try:
                target = files.below(str(folder), file["name"])
                file["saved"] = files.save(
                    api, files.of_run(run, file["name"]), target, file["size"], file["sha256"]
                )
            except (OSError, FileMissing) as error:
                problem = f"{file['name']}: {getattr(error, 'strerror', None) or error}"
                raise CliError(problem, code="not_saved") from None
            cli.output.say(f"{file['saved']}: {_bytes(file['size'])}")
    if cli.as_json:
        cli.output.document({"items": found, "next": None})
    elif save is None:
        cli.output.table(
            ("name", "size", "type", "kept"),
            [(str(f["name"]), _bytes(f["size"]), str(f["media_type"]), ago(f["created_at"])) for f in found],
            empty="the run keeps no files; samovar.artifact(name, path) keeps one",
        )


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def _refused(message: str) -> CliError:
    return CliError(message, code="invalid_file", fields=[{"path": "file", "message": message}])
