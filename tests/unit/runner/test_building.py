"""Builds whose project says something that is no index, and builds that say too much."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from samovar.wire import MAX_LOG_BYTES

import images.build as images
from coordinator.wire import Build, BuildDone, BuildFailed, BuildLog
from runner.building import BuildJob
from runner.coordinator_client import CoordinatorClient
from runner.errors import CoordinatorRefused, SourceGone
from runner.policy import Policy
from runner.records import Records
from runner.settings import Settings
from runner.sidecar_client import SidecarClient

OPTIONS = {"memory": 2**26, "cpu": 1.0, "timeout": 60.0, "warm": True}


class Told(CoordinatorClient):
    """Keeps what the runner says of builds; `refuse`: takes no finished one."""

    def __init__(self, refuse: bool = False, gone: bool = False) -> None:
        super().__init__("http://127.0.0.1:9", "k", "r")
        self.refuse, self.gone = refuse, gone
        self.done: list[BuildDone] = []
        self.failed: list[BuildFailed] = []
        self.lines: list[str] = []

    async def build_source(self, deployment: str, target: Path) -> None:
        if self.gone:
            raise SourceGone("the source is not in the blob store")
        await asyncio.to_thread(target.write_bytes, b"")

    async def build_log(self, deployment: str, body: BuildLog) -> None:
        self.lines += body.lines

    async def build_done(self, deployment: str, body: BuildDone) -> None:
        if self.refuse:
            raise CoordinatorRefused("HTTP 422: a value that the database cannot hold")
        body.model_dump_json()
        self.done.append(body)

    async def build_failed(self, deployment: str, body: BuildFailed) -> None:
        self.failed.append(body)


def built(
    tasks: list[Any],
    told: Told,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: int = 0,
    policy: Policy | None = None,
) -> None:
    """Runs a build whose image has this index, and that says so many lines of a mebibyte."""

    def build(source: Path, *, log: Any, **_: Any) -> images.Built:
        for _number in range(lines):
            log("x" * 1024 * 1024)
        index = {"sdk": "0", "python": "3", "tasks": tasks}
        return images.Built(image="samovar/p:1", index=index)

    monkeypatch.setattr(images, "build", build)
    settings = Settings(
        coordinator_url="http://127.0.0.1:9", key=SecretStr("k"), sidecar_socket=tmp_path / "s", state=tmp_path
    )
    job = BuildJob(
        Build(deployment="d", token=1, project="p", version="v", lease=30),
        settings,
        policy or Policy(),
        told,
        Records(tmp_path),
        SidecarClient(tmp_path / "s"),
    )
    asyncio.run(asyncio.wait_for(job.run(), 30))


@pytest.mark.parametrize(
    "task",
    [7, {"id": "t"}, {"id": 7, "options": OPTIONS}, {"id": "t", "doc": "\ud800", "options": OPTIONS}],
    ids=["number", "no options", "bad id", "surrogate"],
)
def test_what_is_no_index_is_told_as_the_projects_fault(
    task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    built([task], told, tmp_path, monkeypatch)
    assert [f.error.code for f in told.failed] == ["bad_index"]
    assert told.done == []


def test_an_index_that_the_coordinator_refuses_ends_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(refuse=True)
    built([{"id": "t", "options": OPTIONS}], told, tmp_path, monkeypatch)
    (failed,) = told.failed
    assert (failed.error.code, "the database cannot hold" in failed.error.message) == ("bad_index", True)


def test_a_build_that_prints_without_end_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    built([{"id": "t", "options": OPTIONS}], told, tmp_path, monkeypatch, lines=20)
    assert len(told.done) == 1
    assert sum(map(len, told.lines[:-1])) <= MAX_LOG_BYTES
    assert told.lines[-1] == f"13 more lines were dropped: a build keeps {MAX_LOG_BYTES} bytes of log"


def test_a_source_that_nobody_has_is_said_in_the_coordinators_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(gone=True)
    built([], told, tmp_path, monkeypatch)
    (failed,) = told.failed
    assert (failed.error.code, failed.error.message) == ("source_gone", "the source is not in the blob store")
