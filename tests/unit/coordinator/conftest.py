"""A real coordinator on a loopback port, and clients that hold the keys."""

from __future__ import annotations

import io
import shutil
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from coordinator.app import create_app, open_coordinator
from coordinator.context import Coordinator
from coordinator.settings import Settings
from tests.conformance.store import task_entry
from tests.enrolled import Runners
from tests.plain import PLAIN
from tests.waiting import eventually

ADMIN = "admin-key-for-tests-0123"
HOST = {"memory": 4 * 1024**3, "slots": 100}


class Api:
    """A running coordinator as its callers see it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.admin = self.client(ADMIN)
        #: Each runner with its own key.
        self.runner = httpx.Client(base_url=url, auth=Runners(ADMIN), timeout=60, **PLAIN)

    def client(self, key: str | None) -> httpx.Client:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, **PLAIN)

    def close(self) -> None:
        self.admin.close()
        self.runner.close()

    # ------------------------------------------------------------ steps that most tests begin with

    def deploy(self, *tasks: dict[str, Any], project: str = "orders", promote: bool = True) -> dict[str, Any]:
        """A deployment that is ready."""
        made = self.upload(source(project), promote).json()
        (build,) = self.claim(builds=1, slots=0)["builds"]
        index = {"sdk": "0.1.0", "python": "3.11.2", "tasks": list(tasks or [task_entry("greet")])}
        body = {"token": build["token"], "image": f"samovar/{project}:1", "index": index}
        assert ok(self.runner.post(f"/internal/v1/builds/{made['id']}/done", json=body)) == {"status": "ready"}
        return ok(self.admin.get(f"/api/v1/deployments/{made['id']}"))

    def upload(self, archive: bytes, promote: bool = True) -> httpx.Response:
        return self.admin.post("/api/v1/deployments", params={"promote": promote}, content=archive)

    def trigger(self, task: str = "greet", **body: Any) -> dict[str, Any]:
        return ok(self.admin.post(f"/api/v1/tasks/{task}/runs", json=body))

    def run(self, run: str) -> dict[str, Any]:
        return ok(self.admin.get(f"/api/v1/runs/{run}"))

    def claim(self, runner: str = "r1", timeout: float = 0, **body: Any) -> dict[str, Any]:
        body = {**HOST, "timeout": timeout, **body}
        return ok(self.runner.post(f"/internal/v1/runners/{runner}/claim", json=body))

    def claim_one(self, **body: Any) -> dict[str, Any]:
        (assignment,) = self.claim(timeout=10, **body)["assignments"]
        return dict(assignment)

    def attempt(self, assignment: dict[str, Any], action: str, **body: Any) -> httpx.Response:
        """A write in the attempt's name, with its secret."""
        with self.client(assignment["secret"]) as client:
            return client.post(
                f"/internal/v1/attempts/{assignment['attempt']}/{action}",
                json={"token": assignment["token"], **body},
            )

    def started(self, task: str = "greet", **body: Any) -> dict[str, Any]:
        self.trigger(task, **body)
        assignment = self.claim_one()
        ok(self.attempt(assignment, "start", start="cold"))
        return assignment


def ok(answer: httpx.Response) -> dict[str, Any]:
    assert answer.is_success, f"{answer.status_code}: {answer.text}"
    return dict(answer.json())


def error(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem in a refusal, which has to be of this status and code."""
    problem = answer.json()["error"]
    assert (answer.status_code, problem["code"]) == (status, code), answer.text
    assert set(problem) == {"code", "message", "fields"}
    return dict(problem)


def source(project: str = "orders", mode: str = "w:gz", name: str = "samovar.toml") -> bytes:
    """A project's archive."""
    text = f'[project]\nname = "{project}"\ntasks = ["orders.tasks"]\n'.encode()
    return archive({name: text, "orders/tasks.py": b"print(1)\n"}, mode)


def archive(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@contextmanager
def serving(data: Path, database_url: str | None = None) -> Iterator[tuple[Api, Coordinator]]:
    """A coordinator in a thread of this process, until the block ends."""
    settings = Settings(data=data, admin_key=ADMIN, port=0, database_url=database_url)
    coordinator = open_coordinator(settings)
    server = uvicorn.Server(
        uvicorn.Config(create_app(coordinator), port=0, log_config=None, timeout_graceful_shutdown=3)
    )
    loop_of: list[Any] = []

    def serve() -> None:
        import asyncio

        async def main() -> None:
            loop_of.append(asyncio.get_running_loop())
            await server.serve()

        asyncio.run(main())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        eventually(lambda: server.started, "the coordinator listens")
        api = Api(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
        yield api, coordinator
        api.close()
    finally:
        loop_of[0].call_soon_threadsafe(coordinator.waking.close)
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def api(tmp_path: Path, migrated: Path) -> Iterator[Api]:
    (tmp_path / "data").mkdir()
    shutil.copyfile(migrated, tmp_path / "data" / "coordinator.db")
    with serving(tmp_path / "data") as (api, _):
        yield api
