"""Housekeeping on the Docker host: an image is pruned, and what runs of it are under way outlive that."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.errors
import pytest

from tests.stack import Stack, stack, written
from tests.waiting import eventually

pytestmark = pytest.mark.docker

TASKS = """
from samovar import checkpoint, task, wait

@task(id="two-halves", memory="96m")
def two_halves() -> list:
    first = checkpoint("first", 1)
    wait.event("go")
    return [first, checkpoint("second", 2)]

@task(id="say", memory="96m")
def say() -> str:
    return "said"
"""


@pytest.fixture(scope="module")
def samovar() -> Iterator[Stack]:
    # a warm container keeps its image
    with stack(SAMOVAR_RUNNER_MAX_WARM="0") as made:
        yield made


@pytest.fixture
def project(samovar: Stack, request: pytest.FixtureRequest) -> Path:
    own = samovar.directory.name[4:].lower().replace("_", "x")
    return written(samovar.directory, f"pruned-{own}-{len(request.node.name)}", TASKS)


def prune(project: Path) -> None:
    """Removes every image of the project, as `docker image prune --all` does with those that no container has."""
    with contextlib.closing(docker.APIClient(version="auto")) as engine:

        def gone() -> bool:
            images = engine.images(filters={"label": [f"samovar.project={project.name}"]})
            for image in images:
                # a container that is on its way out still has it; an image below another goes after that one
                with contextlib.suppress(docker.errors.APIError):
                    engine.remove_image(image["Id"], force=True)
            return not images

        eventually(gone, "the images to be removed")


def test_a_waiting_run_goes_on_when_its_image_was_pruned(samovar: Stack, project: Path) -> None:
    deployed = samovar.deploy_path(project)
    run = samovar.cli("trigger", f"{project.name}/two-halves")["id"]
    eventually(lambda: samovar.cli("runs", "show", run)["status"] == "waiting", "the run to wait")
    prune(project)
    # a queued run, and then the one that waited: the image is built again once for both
    queued = samovar.cli("trigger", f"{project.name}/say", "--wait")
    assert (queued["result"], queued["version"]) == ("said", deployed["version"])
    attempts = samovar.cli("runs", "attempts", queued["id"])["items"]
    assert [attempt["status"] for attempt in attempts] == ["lost", "completed"]
    assert "is not on this host" in attempts[0]["error"]["message"]
    prune(project)
    samovar.cli("events", "send", "go", "--payload", "{}")
    done = samovar.cli("runs", "wait", run)
    assert (done["status"], done["result"], done["version"]) == ("completed", [1, 2], deployed["version"])
    (shown,) = samovar.cli("deployments", "list", "--project", project.name)["items"]
    assert (shown["status"], shown["version"], shown["rebuild_due_at"]) == ("ready", deployed["version"], None)


def test_a_run_says_why_when_the_source_is_gone_too_and_goes_on_when_it_is_back(
    samovar: Stack, project: Path
) -> None:
    samovar.deploy_path(project)
    prune(project)
    sources = list((samovar.data / "blobs").glob("??/*"))
    aside = [path.rename(samovar.directory / path.name) for path in sources]
    run = samovar.cli("trigger", f"{project.name}/say")["id"]

    def why() -> str:
        said = samovar.cli("runs", "why", run)
        return str(said["message"]) if said["reason"] == "image" and said["until"] else ""

    assert "is not in the blob store" in eventually(why, "the run to say why it waits")
    assert samovar.cli("runs", "show", run)["status"] == "queued"
    for path, back in zip(aside, sources, strict=True):
        path.rename(back)
    (shown,) = samovar.cli("deployments", "list", "--project", project.name)["items"]
    assert shown["rebuild_error"]["code"] == "source_gone"
    samovar.cli("deployments", "rebuild", shown["version"], "--project", project.name)
    assert samovar.cli("runs", "wait", run)["result"] == "said"
