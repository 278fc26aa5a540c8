"""compose.yaml as a user types it: one command in a clone, PostgreSQL and three parts, the orders example on it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest

from images import bootstrap
from images.host import host_network
from tests import commands, stack
from tests.plain import PLAIN
from tests.ports import free_port
from tests.waiting import eventually

# the first `up` on a machine builds the images of three parts and of PostgreSQL
pytestmark = [pytest.mark.docker, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]
PARTS = ("postgres", "coordinator", "sidecar", "runner")


@cache
def compose() -> list[str]:
    """Compose as this machine has it: the plugin, else the older program."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return ["docker", "compose"] if plugin.returncode == 0 else ["docker-compose"]


@dataclass
class Composed:
    """A clone with the project's compose.yaml up in it."""

    clone: Path
    home: Path
    name: str
    port: int

    def compose(self, *arguments: str, code: int | None = 0) -> str:
        done = subprocess.run(
            [*compose(), "-p", self.name, *arguments],
            cwd=self.clone,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )
        assert code is None or done.returncode == code, f"{arguments}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def environment(self) -> dict[str, str]:
        network = host_network().environment
        return {
            **os.environ,
            **{name: value for name, value in network.items() if name in ("PIP_INDEX_URL", "PIP_TRUSTED_HOST")},
            "SAMOVAR_HOME": str(self.home),
            "SAMOVAR_LISTEN": f"127.0.0.1:{self.port}",
            "SAMOVAR_POLICY": str(self.home / "policy.toml"),
            "SAMOVAR_IMAGES": self.name,
            # where no registry answers, both are built on the base that `make setup` has made
            "SAMOVAR_BASE": bootstrap.IMAGE,
            "SAMOVAR_POSTGRES_BASE": bootstrap.IMAGE,
        }

    @cached_property
    def key(self) -> str:
        return self.compose("exec", "-T", "coordinator", "cat", "/data/admin.key").strip()

    def samovar(self, *arguments: str) -> Any:
        done = commands.samovar(
            ["--json", *arguments],
            environment={
                **os.environ, "SAMOVAR_URL": f"http://127.0.0.1:{self.port}", "SAMOVAR_API_KEY": self.key
            },
            timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout)

    def inspect(self, part: str) -> dict[str, Any]:
        identifier = self.compose("ps", "-q", part).strip()
        with closing(docker.APIClient(version="auto")) as engine:
            return dict(engine.inspect_container(identifier))


@pytest.fixture(scope="module")
def composed() -> Iterator[Composed]:
    directory = Path(tempfile.mkdtemp(prefix="smv-"))
    made = Composed(directory / "clone", directory / "home", f"smvtest{uuid.uuid4().hex[:8]}", free_port())
    made.clone.mkdir()
    (made.home / "ledger").mkdir(parents=True)
    (made.home / "ledger").chmod(0o777)
    (made.home / "policy.toml").write_text(f'[mounts.ledger]\npath = "{made.home}/ledger"\nmode = "rw"\n')
    copy_of_the_repository(made.clone)
    bundle = host_network().bundle
    if bundle is not None:
        shutil.copyfile(bundle, made.clone / "images/server/certificates/ca.pem")
    try:
        made.compose("up", "-d", "--build")
        yield made
    finally:
        made.compose("down", "--volumes", code=None)
        remove_traces(made)
        shutil.rmtree(directory, ignore_errors=True)


def copy_of_the_repository(target: Path) -> None:
    """What a clone of the working tree would hold."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    with tempfile.TemporaryFile() as stream:
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for name in listed.decode().split("\0"):
                if name and (ROOT / name).exists():
                    archive.add(ROOT / name, name)
        stream.seek(0)
        with tarfile.open(fileobj=stream) as archive:
            archive.extractall(target, filter="data")


def remove_traces(made: Composed) -> None:
    with closing(docker.APIClient(version="auto")) as engine:
        labels = [f"samovar.images={made.name}"]
        # an image goes after those built on it, so as often as one went
        while any(
            remove_image(engine, image["Id"]) for image in engine.images(all=True, filters={"label": labels})
        ):
            pass


def remove_image(engine: docker.APIClient, identifier: str) -> bool:
    with suppress(docker.errors.APIError):
        engine.remove_image(identifier, force=True)
        return True
    return False


def test_the_orders_example_runs_on_it(composed: Composed) -> None:
    eventually(lambda: composed.samovar("pool")["items"], "the runner to be there")
    stack.deployed_projects.add("orders")
    composed.samovar("deploy", str(ROOT / "examples" / "orders"))
    run = composed.samovar("trigger", "process-order", "--payload", '{"order_id": "C-1"}', "--wait")
    assert (run["status"], run["attempts"], run["result"]["receipt"]) == ("completed", 2, "receipt-C-1")
    charges = (composed.home / "ledger" / "charges.log").read_text().splitlines()
    assert [json.loads(line)["order"] for line in charges] == ["C-1"]


def test_the_dashboard_is_in_the_coordinators_image(composed: Composed) -> None:
    page = httpx.get(f"http://127.0.0.1:{composed.port}/login", timeout=30, **PLAIN)
    assert page.status_code == 200
    (style,) = re.findall(r'"(/static/style[^"]+)"', page.text)
    assert httpx.get(f"http://127.0.0.1:{composed.port}{style}", timeout=30, **PLAIN).status_code == 200


def test_each_part_holds_what_it_needs_and_no_more(composed: Composed) -> None:
    found = {part: composed.inspect(part) for part in PARTS}
    sockets = {
        part: any(mount["Destination"] == "/var/run/docker.sock" for mount in state["Mounts"])
        for part, state in found.items()
    }
    assert sockets == {"postgres": False, "coordinator": False, "sidecar": False, "runner": True}
    networks = {
        part: {name.rpartition("_")[2] for name in state["NetworkSettings"]["Networks"]}
        for part, state in found.items()
    }
    assert networks == {
        "postgres": {"database"},
        "coordinator": {"database", "fleet"},
        "sidecar": {"fleet"},
        "runner": {"fleet"},
    }
    assert found["coordinator"]["Config"]["User"] == "10001:10001"
    assert found["sidecar"]["Config"]["User"] == "10002:10002"
    assert {state["HostConfig"]["PidMode"] for state in found.values()} == {""}
    for part, absent in (
        ("coordinator", "docker"),
        ("sidecar", "docker"),
        ("sidecar", "sqlalchemy"),
        ("runner", "psycopg"),
    ):
        composed.compose("exec", "-T", part, "python", "-c", f"import {absent}", code=1)
    # that the question can be answered with yes
    composed.compose("exec", "-T", "runner", "python", "-c", "import docker")
    environment = " ".join(found["coordinator"]["Config"]["Env"] + found["runner"]["Config"]["Env"])
    assert composed.key.startswith("sk_")
    assert composed.key not in environment


def test_runs_and_keys_are_still_there_after_everything_was_down(composed: Composed) -> None:
    before = composed.samovar("runs", "list")["items"]
    assert before
    composed.compose("down")
    with closing(docker.APIClient(version="auto")) as engine:
        name = (composed.home / "runner" / "runner-id").read_text().strip()
        assert engine.containers(all=True, filters={"label": [f"samovar.runner={name}"]}) == []
    composed.compose("up", "-d")
    assert [run["id"] for run in composed.samovar("runs", "list")["items"]] == [run["id"] for run in before]
    run = composed.samovar("trigger", "process-order", "--payload", '{"order_id": "C-2", "crash": false}', "--wait")
    assert (run["status"], run["attempts"]) == ("completed", 1)
