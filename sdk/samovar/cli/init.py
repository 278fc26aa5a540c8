"""`samovar init`: a small project that works, to start from."""

# ruff: noqa: UP045 - typer reads these annotations while running, on Python 3.9 too

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Optional

import typer

from samovar.cli.command import Cli
from samovar.cli.errors import CliError

_CONFIG = """\
[project]
name = "{name}"
tasks = ["tasks"]                      # modules that hold tasks
requirements = "requirements.txt"      # or pyproject.toml, or uv.lock

[defaults]                             # any option of @task
memory = "256m"
timeout = "10m"
"""

_TASKS = '''\
"""Tasks of the project {name}."""

from samovar import Retry, checkpoint, task


@task(retry=Retry(max_attempts=3))
def greet(name: str, times: int = 1) -> dict:
    """Greet somebody. The greeting is a checkpoint: it is made once, however often the run is tried."""
    greeting = checkpoint("greeting", make_greeting, name)
    for _ in range(times):
        print(greeting)
    return {{"greeting": greeting, "length": len(greeting)}}


def make_greeting(name: str) -> str:
    return f"Hello, {{name}}!"
'''

_REQUIREMENTS = """\
# What the tasks need, one requirement a line. The Samovar SDK itself comes with the image.
"""

_IGNORE = """\
# What is not part of a deployment, as in .gitignore. .git, .venv and __pycache__ never are.
.env
*.log
data/
tests/
"""


def init(
    cli: Cli,
    path: Annotated[Path, typer.Argument(help="Where to; made if it is not there.")] = Path("."),
    name: Annotated[
        Optional[str], typer.Option("--name", help="The project's name; by default the directory's.")
    ] = None,
) -> None:
    """Write a small project that works."""
    project = name or _name_of(path)
    if not re.fullmatch(r"[a-z0-9]+(?:[-_.][a-z0-9]+)*", project) or len(project) > 63:
        message = f"{project!r} is no project name: lower-case letters, digits, single dashes between them"
        raise CliError(
            f"{message}; give --name", code="invalid_name", fields=[{"path": "name", "message": message}]
        )
    files = {
        "samovar.toml": _CONFIG.format(name=project),
        "tasks.py": _TASKS.format(name=project),
        "requirements.txt": _REQUIREMENTS,
        ".samovarignore": _IGNORE,
    }
    there = [file for file in files if (path / file).exists()]
    if there:
        raise CliError(
            f"{path.resolve()} has {', '.join(there)} already, and nothing is overwritten", code="already_there"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            (path / file).write_text(content, "utf-8")
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror or error}", code="unwritable") from None
    if cli.as_json:
        cli.output.document({"project": project, "path": str(path.resolve()), "files": list(files)})
        return
    cli.output.line(f"wrote the project {project}: {', '.join(files)}", "green")
    where = "" if path == Path(".") else f" {path}"
    cli.output.say(
        f"next: samovar up (in another terminal), samovar deploy{where}, "
        'samovar trigger greet --payload \'{"name": "you"}\' --wait'
    )


def _name_of(path: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "-", path.resolve().name.lower()).strip("-") or "project"
