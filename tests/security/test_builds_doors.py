"""Doors of builders: what goes through one, what does not, and when it is closed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from samovar import wire

from coordinator.wire.host import BUILDER
from images.box import Box
from images.docker_builder import Builder
from sidecar.builders import Builders
from sidecar.egress.child import Child
from sidecar.egress.rules import Limits
from tests.control import Refusal
from tests.docker.test_images import TASK, Project, project
from tests.security.attempts import attempt
from tests.security.test_builds import SETTINGS
from tests.unit.sidecar.egress.test_child import scenario
from tests.unit.sidecar.egress.world import Client
from tests.unit.sidecar.test_sidecar import World
from tests.waiting import eventually_async

__all__ = ["project"]

NAME = "b1"


def path_of(w: World) -> Path:
    return w.directory / "c" / f"{BUILDER}{NAME}" / wire.EGRESS_NAME


async def opened(w: World, *hosts: str, private: list[str] | None = None) -> None:
    body = {"mode": "build", "hosts": list(hosts), "private": list(hosts) if private is None else private}
    await w.control.ask("open_builder", NAME, body)


async def closed(w: World) -> dict[str, dict[str, Any]]:
    hosts = (await w.control.ask("close_builder", NAME))["reached"]["hosts"]
    return {f"{host['host']}:{host['port']}": host for host in hosts}


async def ask(path: Path, target: str) -> Client:
    client = Client(*await asyncio.open_unix_connection(path))
    client.writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    return client


@attempt("build", "a connection that outlives its step", "a builder's door closes with the step", "closed")
def test_a_step_reaches_what_is_named_until_its_door_is_closed(tmp_path: Path) -> None:
    async def test(w: World, target: str) -> None:
        await opened(w, target)
        client = await ask(path_of(w), target)
        assert (await client.head()).status == 200
        client.writer.write(b"hello")
        assert await client.reader.readexactly(5) == b"hello"
        # held open, it is the same door
        await opened(w, target)
        client.writer.write(b"again")
        assert await client.reader.readexactly(5) == b"again"
        with pytest.raises(Refusal, match="bad_name"):
            await w.control.ask("open_builder", "..", {"mode": "build"})
        reached = await closed(w)
        assert (reached[target]["sent"], reached[target]["received"], reached[target]["refused"]) == (10, 10, 0)
        assert await client.closed() == b""
        assert not path_of(w).parent.exists()
        assert await closed(w) == {}

    scenario(test, tmp_path)


@attempt(
    "build",
    "download from hosts that nobody named, the metadata address and the host's loopback",
    "a builder's door leads to the index and the policy's hosts alone",
    "refused, and not connected to",
)
def test_a_step_reaches_nothing_else(tmp_path: Path) -> None:
    async def test(w: World, target: str) -> None:
        name, _, port = target.rpartition(":")
        metadata = "169.254.169.254:80"
        await opened(w, target, metadata)
        for other in ("other.example:443", f"127.0.0.1:{port}", f"{name}:1", metadata):
            answer = await (await ask(path_of(w), other)).head()
            assert answer.status == 403, other
        reached = await closed(w)
        assert all(host["refused"] == 1 and not host["connections"] for host in reached.values())
        assert (
            'adds "other.example:443" to hosts in [builds] of policy.toml' in reached["other.example:443"]["reason"]
        )
        assert "that nothing opens" in reached[metadata]["reason"]

    scenario(test, tmp_path)


@attempt(
    "build",
    "a repository of the base image at an address that is not public",
    "such addresses are those of the host's own pip and apt, and of the policy",
    "not_public",
)
def test_what_a_base_names_is_reached_at_public_addresses_alone(tmp_path: Path) -> None:
    async def test(w: World, target: str) -> None:
        await opened(w, target, private=[])
        answer = await (await ask(path_of(w), target)).head()
        assert (answer.status, answer.refused) == (403, "not_public")
        assert f'adds "{target}" to hosts in [builds]' in (await closed(w))[target]["reason"]

    scenario(test, tmp_path)


@attempt("build", "keep the way out when the runner has died", "a door that nobody asks for again closes", "closed")
def test_a_door_that_nobody_asks_for_again_is_closed(tmp_path: Path) -> None:
    async def test() -> None:
        child = Child(None)
        root = tmp_path / "c"
        builders = Builders(root, child, lease=0.2)
        await builders.open(NAME, Limits(mode="build", hosts=["a.example:443"]))
        path = root / f"{BUILDER}{NAME}" / wire.EGRESS_NAME
        assert path.is_socket()
        await eventually_async(lambda: not path.parent.exists(), "the door to be closed")
        # one of a sidecar that is gone is there until it is known that nobody wants it
        path.parent.mkdir()
        again = Builders(root, child, lease=0.2)
        assert path.parent.exists()
        await eventually_async(lambda: not path.parent.exists(), "what was left to be taken away")
        again.stop()
        builders.stop()
        await child.stop()

    asyncio.run(test())


def test_another_sidecar_opens_the_door_at_its_place(tmp_path: Path) -> None:
    async def test(w: World, target: str) -> None:
        await opened(w, target)
        directory = path_of(w).parent
        inode = directory.stat().st_ino
        await w.stop("sidecar")
        with contextlib.suppress(OSError):
            w.settings.control_socket.unlink()
        await w.start_sidecar()
        await opened(w, target)
        # a builder has this directory mounted
        assert directory.stat().st_ino == inode
        assert (await (await ask(path_of(w), target)).head()).status == 200
        await closed(w)

    scenario(test, tmp_path)


@pytest.fixture
def loopback() -> Iterator[socket.socket]:
    """A server on this host's loopback that nobody is to come to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


@pytest.mark.docker
@pytest.mark.usefixtures("base_image")
@pytest.mark.parametrize("installer", ["uv", "pip"])
@pytest.mark.parametrize(
    "where",
    [
        pytest.param(
            where,
            marks=attempt(
                "build",
                f"a requirement at {where}",
                "a builder's door leads to the index and the policy's hosts alone",
                "host_refused",
            ),
        )
        for where in ("a host that nobody named", "the metadata address", "the host's loopback")
    ],
)
def test_a_requirement_leads_nowhere_else(
    project: Project, loopback: socket.socket, installer: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_RETRIES", "0")
    place = {
        "a host that nobody named": "files.example:80",
        "the metadata address": "169.254.169.254:80",
        "the host's loopback": f"127.0.0.1:{loopback.getsockname()[1]}",
    }[where]
    url = f"http://{place}/latest/a-1-py3-none-any.whl"
    error = project.fails({"requirements.txt": f"a @ {url}\n"}, SETTINGS, f'installer = "{installer}"\n')
    assert error.problem.code == "host_refused", error
    assert f'adds "{place}" to hosts in [builds] of policy.toml' in error.problem.message
    with pytest.raises(BlockingIOError):
        loopback.accept()


@pytest.mark.docker
@pytest.mark.usefixtures("base_image")
@attempt("build", "an interface of a builder that downloads", "no builder has a network", "none")
def test_no_builder_has_a_network(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Box] = []
    container = Builder.container

    def recorded(self: Builder, box: Box) -> Any:
        seen.append(box)
        return container(self, box)

    monkeypatch.setattr(Builder, "container", recorded)
    files: dict[str, str | bytes] = {"requirements.txt": "six==1.16.0\n", "tasks.py": "import six\n" + TASK}
    for installer in ("uv", "pip"):
        project.build(files, extra=f'installer = "{installer}"\n')
    assert any("relayed.py" in " ".join(box.command) for box in seen)
    assert {box.network for box in seen} == {"none"}
