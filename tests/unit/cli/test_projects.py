"""Which project a command is about, where the flag does not say it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import commands
from tests.unit.cli.conftest import Hand, Install, Result


def samovar(install: Install, folder: Path, *arguments: str, code: int = 0, stdin: str | None = None) -> Result:
    """The command as it is typed in `folder`."""
    environment = {**os.environ, "SAMOVAR_DATA": str(install.data), "TERM": "dumb"}
    done = commands.samovar(arguments, environment=environment, cwd=folder, stdin=stdin)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return Result(done.returncode, done.stdout, done.stderr)


def written(directory: Path, name: str) -> Path:
    root = directory / name
    root.mkdir()
    (root / "samovar.toml").write_text(f'[project]\nname = "{name}"\ntasks = ["tasks"]\n')
    (root / "tasks.py").write_text("")
    return root


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nowhere")


# these go from an empty coordinator to one with two projects, in their order


def test_nothing_deployed_is_said(install: Install, nowhere: Path) -> None:
    refused = samovar(install, nowhere, "--json", "deployments", "rollback", code=2).document["error"]
    assert refused["code"] == "no_project"
    assert "nothing is deployed yet" in refused["message"]


def test_the_only_project_is_meant(install: Install, hand: Hand, tmp_path: Path, nowhere: Path) -> None:
    shop = written(tmp_path, "shop")
    first = install.json("deploy", str(shop))["version"]
    second = install.json("deploy", str(shop))["version"]
    back = samovar(install, nowhere, "--json", "deployments", "rollback").document
    assert (back["project"], back["version"]) == ("shop", first)
    promoted = samovar(install, nowhere, "--json", "deployments", "promote", second).document
    assert (promoted["version"], promoted["current"]) == (second, True)


def test_of_several_the_samovar_toml_here_decides(
    install: Install, hand: Hand, tmp_path: Path, nowhere: Path
) -> None:
    bakery, shop = written(tmp_path, "bakery"), written(tmp_path, "shop")
    first = install.json("deploy", str(bakery))["version"]
    install.json("deploy", str(bakery))
    refused = samovar(install, nowhere, "deployments", "rollback", code=2)
    assert "--project with one of bakery, shop" in refused.err
    assert samovar(install, bakery, "--json", "deployments", "rollback").document["version"] == first

    samovar(install, nowhere, "queues", "pause", "task/greet", code=2)
    assert samovar(install, bakery, "--json", "queues", "pause", "task/greet").document["project"] == "bakery"
    flag = ("--project", "bakery")
    assert samovar(install, shop, "--json", "queues", "resume", "task/greet", *flag).document["project"] == "bakery"


def test_lists_keep_to_the_project_here_and_say_so(install: Install, tmp_path: Path, nowhere: Path) -> None:
    bakery = written(tmp_path, "bakery")

    def listed(folder: Path, *arguments: str) -> set[str]:
        items = samovar(install, folder, "--json", "deployments", "list", *arguments).document["items"]
        return {item["project"] for item in items}

    assert listed(nowhere) == {"bakery", "shop"}
    assert listed(bakery) == {"bakery"}
    assert listed(bakery, "--project", "shop") == {"shop"}
    assert listed(bakery, "--project", "*") == {"bakery", "shop"}
    assert "project bakery, by the samovar.toml here" in samovar(install, bakery, "queues", "list").err
    for command in (["runs", "list"], ["events", "list"], ["schedules", "list"], ["webhooks", "urls"]):
        assert samovar(install, bakery, "--json", *command).document["items"] == []


def test_a_secret_is_the_projects_here_or_every_projects(install: Install, tmp_path: Path, nowhere: Path) -> None:
    bakery = written(tmp_path, "bakery")
    set_it = ("--json", "secrets", "set", "OVEN")
    assert samovar(install, bakery, *set_it, stdin="hot").document["project"] == "bakery"
    assert samovar(install, nowhere, *set_it, stdin="hot").document["project"] is None
    assert samovar(install, bakery, *set_it, "--project", "*", stdin="hot").document["project"] is None
    samovar(install, bakery, "secrets", "rm", "OVEN")
    assert [s["project"] for s in samovar(install, nowhere, "--json", "secrets", "list").document["items"]] == [
        None
    ]


def test_runs_named_by_their_ids_are_meant_anywhere(
    install: Install, hand: Hand, tmp_path: Path, nowhere: Path
) -> None:
    bakery = written(tmp_path, "bakery")
    trigger = ("--payload", '{"name": "Ada"}', "--delay", "1h")
    ids = [install.json("trigger", f"{name}/greet", *trigger)["id"] for name in ("shop", "shop", "bakery")]
    assert "say which runs" in samovar(install, bakery, "runs", "cancel", "--yes", code=2).err
    shown = samovar(install, bakery, "--json", "runs", "cancel", "--status", "delayed", "--dry-run").document
    assert [item["run"] for item in shown["items"]] == [ids[2]]
    canceled = samovar(install, bakery, "--json", "runs", "cancel", *ids[:2]).document["items"]
    assert {item["run"] for item in canceled} == set(ids[:2])


def test_a_broken_samovar_toml_is_not_passed_over(install: Install, tmp_path: Path) -> None:
    (tmp_path / "samovar.toml").write_text("[project")
    for command in (["deployments", "rollback"], ["runs", "list"], ["queues", "pause", "task/greet"]):
        said = samovar(install, tmp_path, *command, code=2).err
        assert "not valid TOML" in said
        assert "--project" in said
