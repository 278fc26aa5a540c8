"""What a benchmark measures on: a Samovar of its own with the measured project deployed, and plain Docker."""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docker.errors import NotFound
from samovar import Client

from bench.peers import Docker
from bench.postgres import database
from bench.project import Project
from tests.stack import Stack, deployed_projects, stack
from tests.waiting import eventually


@dataclass(frozen=True)
class Bed:
    samovar: Stack
    client: Client
    project: Project
    docker: Docker
    #: The deployed image, and the one below it that has the dependencies and no code.
    image: str
    dependencies: str

    def settled(self) -> None:
        """Returns when no container of Samovar's is on its way: none is being removed while a peer is measured."""

        def settled() -> bool:
            ready = {entry["container"] for entry in self.samovar.pool() if entry["state"] == "idle"}
            return {name.strip("/") for found in self.samovar.containers() for name in found["Names"]} == ready

        eventually(settled, "the containers of earlier runs to be removed or to stand ready")


@contextlib.contextmanager
def bed(network: str = "", **environment: str) -> Iterator[Bed]:
    """Set up with these variables, and afterwards nothing is left. `network`: of the policy."""
    label = uuid.uuid4().hex[:8]
    docker = Docker(label)
    directory = Path(tempfile.mkdtemp(prefix="samovar-bench-"))
    project = Project(directory)
    before = set(deployed_projects)
    try:
        with stack(network, **environment) as samovar, samovar.client() as client:
            deployed = samovar.deploy_path(project.path)
            labels = [f"samovar.project={project.name}", "samovar.kind=dependencies"]
            below = docker.engine.images(filters={"label": labels})
            yield Bed(samovar, client, project, docker, str(deployed["image"]), str(below[0]["RepoTags"][0]))
    finally:
        for name in deployed_projects - before:
            remove_images(docker, name)
        docker.close()
        for path in (*project.path.iterdir(), project.path, directory):
            path.rmdir() if path.is_dir() else path.unlink()


def both(here: Bed) -> Iterator[tuple[str, Bed]]:
    """The bed, which is on SQLite, and then one on PostgreSQL, each with its database's name."""
    yield "SQLite", here
    with database() as url, bed(SAMOVAR_COORDINATOR_DATABASE_URL=url) as there:
        yield "PostgreSQL", there


@contextlib.contextmanager
def beside(bed: Bed, tasks: str) -> Iterator[Project]:
    """A second project, of the module `tasks`, deployed beside the measured one; afterwards its images are gone."""
    with tempfile.TemporaryDirectory(prefix="samovar-bench-") as directory:
        project = Project(Path(directory))
        (project.path / "tasks.py").write_text(tasks)
        bed.samovar.deploy_path(project.path)
        try:
            yield project
        finally:
            remove_images(bed.docker, project.name)


def remove_images(docker: Docker, project: str) -> None:
    """Removes what was built of `project`."""
    # the newest first: an image goes only after those that stand on it
    found = docker.engine.images(filters={"label": [f"samovar.project={project}"]})
    for image in sorted(found, key=lambda image: -image["Created"]):
        # an older version's image has lost its name, which the engine then calls <none>
        named = [tag for tag in image["RepoTags"] or [] if not tag.startswith("<none>")]
        for name in named or [image["Id"]]:
            with contextlib.suppress(NotFound):  # with the one above it
                docker.engine.remove_image(name, force=True)
