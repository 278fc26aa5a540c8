"""Deployments over HTTP, and the archives that are refused."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coordinator.foundation.errors import TooLarge
from coordinator.storage.blobs import Blobs
from tests.conformance.store import task_entry
from tests.unit.coordinator.conftest import Api, archive, error, ok, source


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_source_goes_to_the_runner_as_the_coordinator_wrote_it(api: Api, mode: str) -> None:
    answer = api.upload(source(mode=mode))
    made = answer.json()
    assert (answer.status_code, made["status"], made["project"]) == (201, "building", "orders")
    (build,) = api.claim(builds=1, slots=0)["builds"]
    assert (build["deployment"], build["version"]) == (made["id"], made["version"])
    stored = api.runner.get(f"/internal/v1/builds/{made['id']}/source").content
    with (
        tarfile.open(fileobj=io.BytesIO(stored), mode="r:gz") as written,
        tarfile.open(fileobj=io.BytesIO(source(mode=mode)), mode="r:*") as sent,
    ):
        assert written.getnames() == sent.getnames()
        for name in sent.getnames():
            content, same = sent.extractfile(name), written.extractfile(name)
            assert content is not None
            assert same is not None
            assert content.read() == same.read()
            assert written.getmember(name).mtime == 315_532_800


def test_a_deployment_shows_its_tasks_and_is_listed(api: Api) -> None:
    made = api.deploy(task_entry("greet"), task_entry("part"))
    assert (made["status"], made["current"], made["image"]) == ("ready", True, "samovar/orders:1")
    assert [task["id"] for task in made["tasks"]] == ["greet", "part"]
    assert made["tasks"][0]["options"]["memory"] == 512 * 1024**2
    newer = api.deploy(promote=False)
    listed = ok(api.admin.get("/api/v1/deployments", params={"project": "orders"}))["items"]
    assert [(d["id"], d["current"]) for d in listed] == [(newer["id"], False), (made["id"], True)]
    assert listed[1]["tasks"] == [{"id": "greet"}, {"id": "part"}]
    assert ok(api.admin.post(f"/api/v1/deployments/{newer['id']}/promote"))["current"] is True
    assert ok(api.admin.post("/api/v1/projects/orders/rollback"))["id"] == made["id"]
    error(api.admin.post("/api/v1/projects/orders/rollback"), 409, "no_earlier_deployment")
    error(api.admin.get("/api/v1/deployments/dep_none"), 404, "not_found")


def test_a_build_log_is_followed_to_its_end(api: Api) -> None:
    made = api.upload(source()).json()
    (build,) = api.claim(builds=1, slots=0)["builds"]
    path = f"/internal/v1/builds/{made['id']}"

    def follow() -> list[str]:
        lines: list[str] = []
        after = None
        while True:
            page = ok(
                api.admin.get(f"/api/v1/deployments/{made['id']}/log", params={"after": after, "timeout": 30})
            )
            lines += [item["message"] for item in page["items"]]
            after = page["next"]
            if page["done"]:
                return lines

    with ThreadPoolExecutor(1) as pool:
        followed = pool.submit(follow)
        for n in range(3):
            ok(api.runner.post(f"{path}/log", json={"token": build["token"], "lines": [f"step {n}"]}))
        problem = {"code": "missing_module", "message": "there is no module 'orders.tasks'"}
        ok(api.runner.post(f"{path}/failed", json={"token": build["token"], "error": problem}))
        assert followed.result(40) == ["step 0", "step 1", "step 2", "there is no module 'orders.tasks'"]
    failed = ok(api.admin.get(f"/api/v1/deployments/{made['id']}"))
    assert (failed["status"], failed["error"]["code"]) == ("failed", "missing_module")
    error(api.runner.post(f"{path}/log", json={"token": build["token"], "lines": ["late"]}), 409, "stale_build")


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (b"", "bad_source", "no tar"),
        (b"not a tar at all" * 100, "bad_source", "no tar"),
        (source()[:60], "bad_source", "no tar"),
        (archive({"orders/tasks.py": b""}), "invalid", "not in the archive"),
        (archive({"samovar.toml": b"= nonsense"}), "invalid", "not TOML"),
        (archive({"samovar.toml": b"[project]\n"}), "invalid", "project.name"),
        (archive({"samovar.toml": b'[project]\nname = "../etc"\n'}), "invalid", "no project name"),
        (archive({"deep/samovar.toml": b'[project]\nname = "a"\n'}), "invalid", "not in the archive"),
        (archive({"samovar.toml": b"#" * (1024**2 + 1)}), "invalid", "at most"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused(api: Api, content: bytes, code: str, said: str) -> None:
    assert said in error(api.upload(content), 422, code)["message"]
    assert ok(api.admin.get("/api/v1/deployments"))["items"] == []


def test_an_upload_above_the_limit_leaves_nothing(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * 100

    with pytest.raises(TooLarge, match="the source is larger than 1000 bytes"):
        with blobs.arriving() as file:
            asyncio.run(blobs.spool(chunks(), file, 1000, "the source"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with blobs.arriving() as file:
        asyncio.run(blobs.spool(chunks(), file, 1100, "the source"))
        name = blobs.take(file)
    assert blobs.get(name) == b"x" * 1100
    assert blobs.put(b"x" * 1100) == name
