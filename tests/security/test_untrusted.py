"""What trust="untrusted" is, on an engine that has gVisor; and the attempts from inside a run there."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests import private_engine
from tests.security.attempts import attempt
from tests.security.inside import ALL, Tried, tried, wreck
from tests.stack import PROJECTS, Stack, stack

pytestmark = pytest.mark.usefixtures("unchanged_host")

MIB = 1024**2


@pytest.fixture(scope="module")
def samovar(base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A Samovar on an engine of its own that has gVisor, and a project that nobody trusts."""
    if (lacking := private_engine.lacking()) is not None:
        pytest.skip(f"a private Docker Engine with gVisor {lacking}")
    project = tmp_path_factory.mktemp("untrusted") / "insider"
    shutil.copytree(PROJECTS / "insider", project)
    with (project / "samovar.toml").open("a") as file:
        file.write('trust = "untrusted"\n')
    with private_engine.private_engine(base_image) as address, stack(DOCKER_HOST=address) as made:
        made.deploy_path(project)
        yield made


@pytest.fixture(scope="module")
def seen(samovar: Stack) -> dict[str, str]:
    return tried(samovar)


@pytest.mark.parametrize("one", [pytest.param(one, id=one.name) for one in ALL])
def test_in_gvisor(seen: dict[str, str], one: Tried) -> None:
    assert not one.in_gvisor or seen[one.name] in one.in_gvisor


def test_a_fork_bomb(samovar: Stack) -> None:
    """Each process takes memory of the sandbox's kernel too, so that it may be that limit which ends it."""
    run = wreck(samovar, "fork-bomb")
    assert run["error"]["reason"] == "out_of_memory" if run["error"] else run["result"] < 64


def test_all_of_scratch(samovar: Stack) -> None:
    assert wreck(samovar, "all-of-scratch")["result"] <= 16 * MIB


def test_all_memory(samovar: Stack) -> None:
    """This engine's runsc makes no cgroups: it is the runner that looks."""
    error = wreck(samovar, "all-memory")["error"]
    assert error["reason"] == "out_of_memory"
    assert "the runner ended the container at its memory limit of 96 MiB" in error["message"]


@attempt("run", "untrusted: start other runs, make tokens", 'trust="untrusted"', "422", "422")
def test_it_reaches_nothing_beyond_its_run(samovar: Stack) -> None:
    assert samovar.finished("ask-for-more")["result"] == ["trigger", "token"]


@attempt(
    "run", "untrusted: find what a run before has left", 'trust="untrusted"', "a new container", "a new container"
)
def test_each_run_has_a_container_of_its_own(samovar: Stack) -> None:
    runs = [samovar.finished("nothing") for _ in range(2)]
    assert [run["timings"]["start"] for run in runs] == ["cold", "cold"]


def test_it_is_gvisor_that_runs_it(samovar: Stack) -> None:
    with samovar.client() as client:
        run = client.trigger("all-watches", {"hold": True})
        name = samovar.container_of(run.id)
        with contextlib.closing(docker.APIClient(samovar.environment["DOCKER_HOST"], version="1.41")) as engine:
            found = engine.inspect_container(name)["HostConfig"]
        run.cancel()
    assert (found["Runtime"], found["NetworkMode"]) == ("runsc", "none")
    assert {mount["Target"] for mount in found["Mounts"]} == {"/run/samovar", "/etc/passwd"}


SNIPPET = """
import pathlib
rows = pathlib.Path("numbers.csv").read_text().split()
pathlib.Path("sum.txt").write_text(str(sum(map(int, rows))))
print("read", len(rows), "rows")
pathlib.Path("/proc/version").read_text()
"""


def test_somebodys_python_gets_files_and_gives_files_and_output_back(samovar: Stack, tmp_path: Path) -> None:
    """examples/snippets as it is: what it does in ordinary containers, tests of the demo see."""
    samovar.deploy("snippets")
    (tmp_path / "numbers.csv").write_text("1\n2\n39\n")
    with samovar.client() as client:
        given = client.upload(tmp_path / "numbers.csv")
        run = client.trigger("snippets/run-snippet", {"code": SNIPPET, "files": [given]}).wait(120)
        assert run.status == "completed", run.data["error"]
        found = run.data["result"]
        assert found["output"] == "read 3 rows\n"
        assert "Linux version 4.4.0" in found["result"], "the kernel that it sees is the sandbox's"
        assert found["files"] == ["sum.txt"]
        assert run.artifact("sum.txt").read() == b"42"
        endless = client.trigger("snippets/run-snippet", {"code": "while True: pass"}).wait(120)
        assert endless.status == "timed_out"
