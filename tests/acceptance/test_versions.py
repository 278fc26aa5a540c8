"""Versions with real images: what is kept, what goes, and what a deploy says before it is promoted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.stack import Stack, stack, written
from tests.waiting import eventually

TASKS = """
from samovar import checkpoint, task

@task(id="{name}", memory="96m")
def say() -> int:
    return checkpoint("{key}", {number})
"""


@pytest.fixture(scope="module")
def samovar() -> Iterator[Stack]:
    # a warm container keeps its image
    with stack(SAMOVAR_COORDINATOR_KEEP_VERSIONS="1", SAMOVAR_RUNNER_MAX_WARM="0") as made:
        yield made


@pytest.fixture
def project(samovar: Stack) -> Path:
    name = f"versions-{samovar.directory.name[4:].lower().replace('_', 'x')}"
    return written(samovar.directory, name, "")


def write(project: Path, number: int, name: str = "say", key: str = "said") -> None:
    (project / "tasks.py").write_text(TASKS.format(name=name, key=key, number=number))


def images(project: Path) -> set[str]:
    client = docker.APIClient(version="auto")
    found = client.images(filters={"label": [f"samovar.project={project.name}"]})
    client.close()
    return {tag for image in found for tag in image["RepoTags"] or []}


def test_versions_come_stay_and_go(samovar: Stack, project: Path) -> None:
    write(project, 1)
    first = samovar.deploy_path(project)
    waiting = samovar.cli("trigger", "say", "--delay", "1h")["id"]
    write(project, 2)
    second = samovar.deploy_path(project)
    assert second["findings"] == []
    write(project, 3, key="told")
    third = samovar.deploy_path(project)
    assert [(f["kind"], f["runs"]) for f in third["findings"]] == [("checkpoints_changed", 1)]
    # the first has a run under way, the third is current, and nothing needs the second
    eventually(lambda: second["image"] not in images(project), "the image of the second version to go")
    assert {first["image"], third["image"]} < images(project)
    for arguments in (
        ("trigger", "say", "--version", second["version"]),
        ("deployments", "promote", second["version"], "--project", project.name),
    ):
        refused = samovar.cli(*arguments, code=2)["error"]
        assert refused["code"] == "image_removed"
        assert "deploy that source again" in refused["message"]
    assert samovar.cli("trigger", "say", "--version", first["version"], "--wait")["result"] == 1
    assert samovar.cli("trigger", "say", "--wait")["result"] == 3

    write(project, 4, name="speak")
    error = json.loads(samovar.run("deploy", str(project)).stdout)["error"]
    assert error["code"] == "breaks_runs"
    assert samovar.cli("trigger", "say", "--wait")["version"] == third["version"]
    fourth = samovar.cli("deploy", str(project), "--force")
    assert samovar.cli("trigger", "speak", "--wait")["version"] == fourth["version"]
    eventually(lambda: third["image"] not in images(project), "the image of the third version to go")
    # the third's image is gone, the second's too, and the fourth's source was handed in once more and never current
    back = samovar.cli("deployments", "rollback", "--project", project.name)
    assert back["image"] == first["image"]

    samovar.cli("runs", "cancel", waiting)
    write(project, 5)
    fifth = samovar.deploy_path(project)
    dependencies = {name for name in images(project) if ":dependencies-" in name}
    eventually(
        lambda: {name for name in images(project) if ":deployment-" in name} == {fifth["image"]},
        "the images of all earlier versions to go",
        deadline=120,
    )
    assert {name for name in images(project) if ":dependencies-" in name} == dependencies
    assert samovar.cli("trigger", "say", "--wait")["result"] == 5
