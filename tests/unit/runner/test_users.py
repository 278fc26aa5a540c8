"""Which user a container's processes are."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic import ValidationError
from samovar import wire

from runner.errors import EngineError
from runner.settings import Settings
from runner.spec import ContainerKey, ContainerSpec
from runner.users import FIRST, LAST, MAPPED_FIRST, MAPPED_LAST, Users
from tests.fakes import FakeEngine

MIB = 1024**2


def key(*mounts: tuple[str, str, bool]) -> ContainerKey:
    return ContainerKey("p", "image", 64 * MIB, 1.0, "none", mounts, "project", 128, 16 * MIB)


def engine(**options: object) -> FakeEngine:
    return FakeEngine({"image"}, **options)  # type: ignore[arg-type]


def test_every_container_has_a_user_of_its_own(tmp_path: Path) -> None:
    users = Users(engine(), tmp_path, (1000, 1255))
    taken = [asyncio.run(users.take(f"c{n}", key())) for n in range(256)]
    assert sorted(taken) == list(range(1000, 1256))
    with pytest.raises(EngineError, match="SAMOVAR_RUNNER_UIDS"):
        asyncio.run(users.take("more", key()))
    users.give_back("c7")
    assert asyncio.run(users.take("more", key())) == taken[7]


def test_nobody_has_that_of_another_runners_container(tmp_path: Path) -> None:
    shared = engine()
    for uid in range(1000, 1250):
        shared.create(ContainerSpec(f"other-{uid}", "another runner", key(), "/s", uid))
    users = Users(shared, tmp_path, (1000, 1255))
    assert {asyncio.run(users.take(f"c{n}", key())) for n in range(6)} == set(range(1250, 1256))


def test_a_runner_that_starts_again_takes_none_that_its_containers_have(tmp_path: Path) -> None:
    shared = engine()
    shared.create(ContainerSpec("c", "r", key(), "/s", 1003))
    users = Users(shared, tmp_path, (1000, 1255))
    users.adopt("c", 1003)
    assert users.of("c") == 1003
    assert 1003 not in {asyncio.run(users.take(f"c{n}", key())) for n in range(255)}


@pytest.mark.parametrize(("mapped", "expected"), [(False, (FIRST, LAST)), (True, (MAPPED_FIRST, MAPPED_LAST))])
def test_the_usual_range_is_one_that_the_engine_has(
    tmp_path: Path, mapped: bool, expected: tuple[int, int]
) -> None:
    users = Users(engine(mapped=mapped), tmp_path, None)
    assert expected[0] <= asyncio.run(users.take("c", key())) <= expected[1]


def test_who_writes_to_a_directory_of_the_host_is_always_the_same(tmp_path: Path) -> None:
    users = Users(engine(), tmp_path, None)
    writes, reads = ("/srv/a", "/a", False), ("/srv/b", "/b", True)
    assert asyncio.run(users.take("w", key(reads, writes))) == wire.TASK_UID
    assert asyncio.run(users.take("r", key(reads))) != wire.TASK_UID


def test_the_user_has_a_name_and_a_home(tmp_path: Path) -> None:
    users = Users(
        engine(files={"/etc/passwd": b"root:x:0:0:root:/root:/bin/bash\npostgres:x:5:5::/p:/s\n"}), tmp_path, None
    )
    path = asyncio.run(users.passwd("c", "image", 200_001))
    assert path is not None
    assert path.read_text().splitlines() == [
        "root:x:0:0:root:/root:/bin/bash",
        "postgres:x:5:5::/p:/s",
        "task:x:200001:65532:task:/home/task:/usr/sbin/nologin",
    ]
    assert path.stat().st_mode & 0o777 == 0o644
    users.give_back("c")
    assert not path.exists()


@pytest.mark.parametrize(
    "found",
    [None, b"", b"\xff\xfe", b"no user\n" * 1000, b"a:b:c\n", b"task:x:65532:65532:task:/home/task:/bin/sh\n"],
)
def test_an_images_file_that_is_none_is_not_taken(tmp_path: Path, found: bytes | None) -> None:
    users = Users(engine(files={} if found is None else {"/etc/passwd": found}), tmp_path, None)
    path = asyncio.run(users.passwd("c", "image", 200_001))
    assert path is not None
    lines = path.read_text().splitlines()
    assert [line.split(":")[0] for line in lines] == ["root", "nobody", "task"]


@pytest.mark.parametrize(
    "text", ["", "1-2", "200000", "200000-200010", "0-70000", "5-1", "1000-99999999999", "a-b"]
)
def test_a_range_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    given = {"coordinator_url": "http://c", "key": "k", "sidecar_socket": tmp_path / "s", "state": tmp_path}
    if text:
        with pytest.raises(ValidationError, match="uids"):
            Settings(**given, uids=text)
    assert Settings(**given, uids="200000-265535").uid_range == (200_000, 265_535)
