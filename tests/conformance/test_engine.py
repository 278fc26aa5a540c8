"""One suite for every container engine: the real one, and the fake that stands in for its failures."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import docker
import pytest

from runner.docker_engine import DockerEngine
from runner.engine import Engine
from runner.errors import EngineError, ImageMissing
from runner.spec import ContainerKey, ContainerSpec
from tests.fakes import FakeEngine
from tests.waiting import eventually

MIB = 1024**2


@dataclass
class Bench:
    """An engine, an image on it whose process 1 sleeps, and a runner's id to label containers with."""

    engine: Engine
    image: str
    runner: str
    sockets: Path

    def spec(self, image: str | None = None, runner: str | None = None) -> ContainerSpec:
        key = ContainerKey(
            "tests", image or self.image, 64 * MIB, 0.5, "none", (), trust="project", pids=128, scratch=32 * MIB
        )
        return ContainerSpec(f"samovar-test-{uuid.uuid4().hex[:12]}", runner or self.runner, key, str(self.sockets))


@pytest.fixture(scope="module")
def sleeping_image(base_image: str) -> Iterator[str]:
    """An image made of the base whose process 1 does nothing for a long time."""
    tag = f"sleeping-{uuid.uuid4().hex[:8]}"
    labels = {"samovar": "1", "samovar.test": "1"}
    with contextlib.closing(docker.APIClient(version="auto")) as client:
        made = client.create_container(base_image, command=["/bin/true"], labels=labels)["Id"]
        config = {"Entrypoint": ["/bin/sleep", "600"], "Labels": labels}
        client.commit(made, repository="samovar/tests", tag=tag, conf=config)
        client.remove_container(made)
        yield f"samovar/tests:{tag}"
        client.remove_image(f"samovar/tests:{tag}")


@pytest.fixture(params=["fake", "docker"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    runner = f"test-{uuid.uuid4().hex[:8]}"
    if request.param == "docker":
        image = request.getfixturevalue("sleeping_image")
        engine: Engine = DockerEngine()
    else:
        image, engine = "samovar/tests:sleeping", FakeEngine({"samovar/tests:sleeping"})
    yield Bench(engine, image, runner, tmp_path)
    for state in engine.list(runner):
        engine.remove(state.name)
    engine.close()


def test_a_container_goes_from_created_to_running_to_gone(bench: Bench) -> None:
    spec = bench.spec()
    bench.engine.create(spec)
    created = bench.engine.inspect(spec.name)
    assert created is not None
    assert (created.running, created.labels["samovar.runner"]) == (False, bench.runner)
    bench.engine.start(spec.name)
    running = bench.engine.inspect(spec.name)
    assert running is not None
    assert running.running
    assert running.exit_code is None
    bench.engine.remove(spec.name)
    assert bench.engine.inspect(spec.name) is None


def test_a_kill_ends_it_with_137(bench: Bench) -> None:
    spec = bench.spec()
    bench.engine.create(spec)
    bench.engine.start(spec.name)
    bench.engine.kill(spec.name)

    def dead() -> bool:
        state = bench.engine.inspect(spec.name)
        return state is not None and not state.running and state.exit_code == 137

    eventually(dead, "the container to be dead")


def test_what_is_gone_already_is_no_error(bench: Bench) -> None:
    bench.engine.kill("samovar-test-never-was")
    bench.engine.remove("samovar-test-never-was")
    spec = bench.spec()
    bench.engine.create(spec)
    bench.engine.kill(spec.name)
    bench.engine.remove(spec.name)
    bench.engine.remove(spec.name)


def test_only_this_runners_containers_are_listed(bench: Bench) -> None:
    mine, other = bench.spec(), bench.spec(runner=bench.runner + "-other")
    bench.engine.create(mine)
    bench.engine.create(other)
    try:
        assert [state.name for state in bench.engine.list(bench.runner)] == [mine.name]
    finally:
        bench.engine.remove(other.name)


def test_the_users_of_all_containers_are_seen(bench: Bench) -> None:
    mine, other = (
        replace(bench.spec(), uid=200_001),
        replace(bench.spec(runner=bench.runner + "-other"), uid=200_002),
    )
    bench.engine.create(mine)
    bench.engine.create(other)
    try:
        assert {200_001, 200_002} <= bench.engine.users()
    finally:
        bench.engine.remove(other.name)
    assert 200_002 not in bench.engine.users()


def test_a_file_of_an_image_is_read_without_starting_it(bench: Bench) -> None:
    if isinstance(bench.engine, FakeEngine):
        bench.engine.files["/etc/passwd"] = b"root:x:0:0:root:/root:/bin/bash\n"
    found = bench.engine.read_file(bench.image, "/etc/passwd", 64 * 1024)
    assert found is not None
    assert found.startswith(b"root:x:0:0")
    assert bench.engine.read_file(bench.image, "/etc/never-was", 1024) is None
    with pytest.raises(ImageMissing):
        bench.engine.read_file("samovar/tests:never-built", "/etc/passwd", 1024)


def test_a_missing_image_is_told_apart(bench: Bench) -> None:
    assert bench.engine.image_exists(bench.image)
    assert not bench.engine.image_exists("samovar/tests:never-built")
    with pytest.raises(ImageMissing, match="never-built"):
        bench.engine.create(bench.spec("samovar/tests:never-built"))


def test_a_container_that_is_not_there_cannot_start(bench: Bench) -> None:
    with pytest.raises(EngineError):
        bench.engine.start("samovar-test-never-was")


def test_deaths_are_told(bench: Bench) -> None:
    died: list[str] = []
    stop = threading.Event()
    watch = threading.Thread(target=bench.engine.watch, args=(bench.runner, died.append, stop.is_set), daemon=True)
    watch.start()
    spec = bench.spec()
    bench.engine.create(spec)

    def killed_and_told() -> bool:
        # the watch may not be connected yet when the first one dies: so until one death is told
        bench.engine.start(spec.name)
        bench.engine.kill(spec.name)
        eventually(lambda: not _running(bench, spec.name), "the container to die")
        return spec.name in died

    eventually(killed_and_told, "a death to be told")
    stop.set()


def test_the_hardening_is_what_docker_says(bench: Bench) -> None:
    """What the engine was asked for is what Docker holds: read back, not believed."""
    if isinstance(bench.engine, FakeEngine):
        bench.engine.create(bench.spec())  # the fake has no kernel to ask; it only takes the spec
        return
    spec = replace(bench.spec(), uid=200_001)
    bench.engine.create(spec)
    client = docker.APIClient(version="auto")
    try:
        data = client.inspect_container(spec.name)
    finally:
        client.close()
    host = data["HostConfig"]
    assert data["Config"]["User"] == "200001:65532"
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert host["ReadonlyRootfs"]
    assert host["NetworkMode"] == "none"
    assert host["Memory"] == host["MemorySwap"] == 64 * MIB
    assert host["PidsLimit"] == 128
    assert host["IpcMode"] == "none"
    assert host["LogConfig"]["Type"] == "none"
    assert "no-new-privileges" in host["SecurityOpt"]
    assert any(option.startswith("seccomp={") for option in host["SecurityOpt"])
    assert "ro" in host["Tmpfs"]["/dev/mqueue"].split(",")
    assert all("nr_inodes=" in options and "size=" in options for options in host["Tmpfs"].values())
    limits = {limit["Name"]: limit["Hard"] for limit in host["Ulimits"]}
    assert limits["core"] == limits["msgqueue"] == limits["rtprio"] == limits["nice"] == 0
    assert limits["sigpending"] <= 4096
    assert "uid=200001" in host["Tmpfs"]["/home/task"]
    assert [m["Target"] for m in host["Mounts"] if m.get("ReadOnly")] == ["/run/samovar"]


def _running(bench: Bench, name: str) -> bool:
    state = bench.engine.inspect(name)
    return state is not None and state.running


def test_a_container_weighs_what_it_is_told_and_one_that_is_gone_is_no_error(bench: Bench) -> None:
    spec = bench.spec()
    bench.engine.create(spec)
    bench.engine.start(spec.name)
    bench.engine.weigh(spec.name, 128)
    if isinstance(bench.engine, FakeEngine):
        assert bench.engine.weights[spec.name] == 128
    else:
        with contextlib.closing(docker.APIClient(version="auto")) as client:
            # it began with that of its half a processor
            assert client.inspect_container(spec.name)["HostConfig"]["CpuShares"] == 128
    bench.engine.remove(spec.name)
    bench.engine.weigh(spec.name, 256)
