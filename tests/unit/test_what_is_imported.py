"""Imports are most of what the start of a process takes: what it must neither import nor build, is pinned here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route

from coordinator.app import create_app, open_coordinator
from coordinator.settings import Settings

LIST_MODULES = "import json, sys; print(json.dumps(sorted(sys.modules)))"


def imported(program: str, **environment: str) -> set[str]:
    """The modules that a process of its own has when it has executed `program`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{LIST_MODULES}"],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return set(json.loads(done.stdout.splitlines()[-1]))


def command(*arguments: str) -> str:
    return (
        f"import sys; sys.argv = ['samovar', *{list(arguments)!r}]\nfrom samovar.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass"
    )


def test_a_command_imports_what_it_needs_alone(tmp_path: Path) -> None:
    found = imported(command("runs", "list"), SAMOVAR_DATA=str(tmp_path))
    assert "samovar.cli.runs" in found
    ours = {name for name in found if name.startswith("samovar.cli.")}
    assert not ours & {f"samovar.cli.{other}" for other in ("up", "dev", "deploy", "secrets", "hosts", "init")}
    assert not found & {"fastapi", "sqlalchemy", "docker", "pathspec", "dotenv", "coordinator"}


@pytest.mark.parametrize("arguments", [["--help"], ["nothing"], ["runs", "--help"]])
def test_where_all_commands_are_told_of_all_are_there(arguments: list[str], tmp_path: Path) -> None:
    found = imported(command(*arguments), SAMOVAR_DATA=str(tmp_path))
    assert {"samovar.cli.up", "samovar.cli.runs", "samovar.cli.doctor"} <= found


def test_a_value_that_is_a_commands_name_hides_no_command(tmp_path: Path) -> None:
    assert "samovar.cli.runs" in imported(command("--data", "up", "runs", "list"), SAMOVAR_DATA=str(tmp_path))


OPENED = """
from coordinator import __main__
from coordinator.app import create_app, open_coordinator
from coordinator.settings import Settings
coordinator = open_coordinator(Settings())
create_app(coordinator)
coordinator.database.close()
"""


def test_a_coordinator_on_sqlite_imports_neither_postgresql_nor_migrations(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    environment = {
        "SAMOVAR_COORDINATOR_DATA": str(tmp_path),
        "SAMOVAR_COORDINATOR_ADMIN_KEY": "sk_" + "a" * 40,
    }
    for _ in ("a new database", "one of the newest schema"):
        found = imported(OPENED, **environment)
        assert {"sqlalchemy", "fastapi"} <= found
        assert not found & {"psycopg", "alembic", "mako"}


BUILT = """
import {part}.__main__, pydantic, sys
def below(model):
    for each in model.__subclasses__():
        yield each
        yield from below(each)
from coordinator.wire import basics
models = set(below(basics.BaseModel))
assert len(models) > 100
print([m.__name__ for m in models if m.__pydantic_complete__ and m.__module__.startswith("coordinator.wire")])
print("gc", __import__("gc").isenabled())
"""


@pytest.mark.parametrize("part", ["runner", "sidecar"])
def test_no_message_is_built_before_it_is_used(part: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BUILT.format(part=part)], capture_output=True, text=True, timeout=120, check=True
    )
    # who imports it as a module keeps their collector
    assert done.stdout.splitlines() == ["[]", "gc True"]


@pytest.mark.parametrize("part", ["runner", "sidecar"])
def test_parts_of_a_host_have_no_libraries_of_the_coordinator(part: str) -> None:
    assert not imported(f"import {part}.__main__") & {"fastapi", "sqlalchemy", "psycopg", "alembic", "uvicorn"}


def test_no_route_is_built_again_for_an_application(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    settings = Settings(data=tmp_path, admin_key="sk_" + "a" * 40, port=0)
    coordinator = open_coordinator(settings)
    try:
        routes = create_app(coordinator).routes
        again = create_app(coordinator).routes
    finally:
        coordinator.database.close()
    assert len(routes) > 60
    # what is included as a router is built when the first request comes, by each application
    assert all(isinstance(route, Route) for route in routes)
    declared = [route for route in routes if isinstance(route, APIRoute)]
    assert declared == [route for route in again if isinstance(route, APIRoute)]


def test_a_coordinator_says_nothing_while_it_is_first_used(tmp_path: Path) -> None:
    """What is built when first used must not put warnings into the log of whoever runs it."""
    tmp_path.chmod(0o700)
    program = OPENED.replace(
        "create_app(coordinator)\n", "print(len(create_app(coordinator).openapi()['paths']))\n"
    )
    environment = {"SAMOVAR_COORDINATOR_DATA": str(tmp_path), "SAMOVAR_COORDINATOR_ADMIN_KEY": "sk_" + "a" * 40}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert int(done.stdout) > 30
    assert done.stderr == ""
