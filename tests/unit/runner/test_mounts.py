"""What is mounted as a container's sockets: the runner's own answer, whatever the sidecar says or does."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from pydantic import SecretStr
from samovar import wire

from coordinator.wire import ContainerState
from runner.errors import EngineError
from runner.pool import Pool
from runner.settings import Settings
from runner.sidecar_client import SidecarClient
from tests.fakes import FakeEngine
from tests.unit.runner.test_pool import IMAGE, MIB, World


async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A sidecar that names a directory in every answer."""
    async for line in reader:
        asked = wire.decode(line)
        answer = {"type": "reply", "id": asked.get("id"), "state": {"directory": "/etc"}, "directory": "/etc"}
        writer.write(
            wire.encode({"type": "welcome", "boot": "b", "seq": 0} if asked["type"] == "hello" else answer)
        )
    writer.close()


def acquired(directory: Path) -> tuple[str, str]:
    """Name and mounted directory of a container that a runner with `directory` as the sidecar's has made."""

    async def main() -> tuple[str, str]:
        engine = FakeEngine(images={IMAGE})
        client = SidecarClient(directory / "sidecar.sock")
        liar = await asyncio.start_unix_server(lie, directory / "sidecar.sock")
        settings = Settings(
            coordinator_url="http://127.0.0.1:9", key=SecretStr("k"), state=directory, slots=8, memory=1000 * MIB,
            sidecar_socket=directory / "sidecar.sock",
        )  # fmt: skip
        world = World(engine, Pool("r", settings, engine, client), lambda: 0.0, directory / "c")  # type: ignore[arg-type]
        try:
            container = await world.acquire()
            return container.name, engine.specs[container.name].sockets
        finally:
            await world.pool.close()
            await client.close()
            liar.close()

    return asyncio.run(asyncio.wait_for(main(), 30))


def test_a_directory_that_the_sidecar_names_is_not_mounted() -> None:
    assert "directory" not in ContainerState.model_fields
    with tempfile.TemporaryDirectory() as directory:
        name, mounted = acquired(Path(directory))
        assert mounted == f"{directory}/c/{name}"


def test_a_link_in_place_of_the_directory_is_not_mounted() -> None:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "c").symlink_to("/etc")
        with pytest.raises(EngineError, match="is a link"):
            acquired(Path(directory))
