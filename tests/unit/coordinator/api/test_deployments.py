"""Deployments over HTTP, and the archives that are refused."""

from __future__ import annotations

import asyncio
import gzip
import io
import tarfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coordinator.deployments import uploads as sources
from coordinator.foundation.errors import Invalid, TooLarge
from coordinator.storage.blobs import Blobs
from tests.conformance.store import task_entry
from tests.unit.coordinator.conftest import Api, archive, error, ok, source


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_source_goes_to_the_runner_as_it_came(api: Api, mode: str) -> None:
    sent = source(mode=mode)
    answer = api.upload(sent)
    made = answer.json()
    assert (answer.status_code, made["status"], made["project"]) == (201, "building", "orders")
    (build,) = api.claim(builds=1, slots=0)["builds"]
    assert (build["deployment"], build["version"]) == (made["id"], made["version"])
    assert api.runner.get(f"/internal/v1/builds/{made['id']}/source").content == sent


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


def test_a_link_in_place_of_the_configuration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "source.tar"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("samovar.toml")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    with pytest.raises(Invalid, match="has to be a file"):
        sources.project_name(path)


def test_a_header_that_claims_much_is_not_believed(tmp_path: Path) -> None:
    """A few kilobytes of gzip that unpack to a header of a gigabyte."""
    member = tarfile.TarInfo("pax")
    member.type, member.size = tarfile.XHDTYPE, 1024**3
    path = tmp_path / "source.tar.gz"
    with gzip.open(path, "wb") as packed:
        packed.write(member.tobuf())
    with pytest.raises(Invalid, match="headers says 1073741824 bytes"):
        sources.project_name(path)


def test_an_archive_that_unpacks_to_too_much_is_not_read_through(tmp_path: Path) -> None:
    member = tarfile.TarInfo("zeros")
    member.size = 2**36
    path = tmp_path / "source.tar"
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(Invalid, match="larger than"):
        sources.project_name(path)


def test_a_large_file_before_the_configuration_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "source.tar.gz"
    files = {"data.bin": bytes(8 * 1024**2), "samovar.toml": b'[project]\nname = "shop"\n'}
    path.write_bytes(archive(files))
    assert sources.project_name(path) == "shop"


def test_an_upload_above_the_limit_leaves_nothing(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * 100

    with pytest.raises(TooLarge, match="the source is larger than 1000 bytes"):
        asyncio.run(blobs.receive(chunks(), 1000, "the source"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    name = asyncio.run(blobs.receive(chunks(), 1100, "the source"))
    assert blobs.get(name) == b"x" * 1100
    assert blobs.put(b"x" * 1100) == name


def test_a_tar_of_another_kind_of_compression_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz"):
        pass
    path = tmp_path / "source.tar.xz"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(Invalid, match="no tar"):
        sources.project_name(path)
