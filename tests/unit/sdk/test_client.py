"""The clients against a real coordinator; the test plays the runner over the fleet's own HTTP."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import samovar
from samovar import ApiError, Client, CoordinatorUnreachable, NotFound, OptionError, RunFailed, WaitTimeout
from samovar.declare.options import DEFAULTS

from tests.enrolled import Runners
from tests.plain import PLAIN
from tests.waiting import eventually

ADMIN = "admin-key-of-the-tests"


class Fleet:
    """A coordinator process, and what a runner says to it."""

    def __init__(self, data: Path, port: int = 0) -> None:
        self._data = data
        self._start(port)
        self._http = httpx.Client(base_url=f"{self.url}/internal/v1", auth=Runners(ADMIN), timeout=30, **PLAIN)

    def _start(self, port: int) -> None:
        environment = {
            "SAMOVAR_COORDINATOR_DATA": str(self._data),
            "SAMOVAR_COORDINATOR_PORT": str(port),
            "SAMOVAR_COORDINATOR_ADMIN_KEY": ADMIN,
        }
        log = self._data / "log"
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "coordinator"], env={**os.environ, **environment}, stdout=file, stderr=file
            )
        found = eventually(
            lambda: re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text()), "the coordinator's URL"
        )
        self.url, self.port = found[0], int(found[1])

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        self.stop()
        self._start(self.port)

    def post(self, path: str, body: dict[str, Any], **options: Any) -> Any:
        answer = self._http.post(path, json=body, **options)
        answer.raise_for_status()
        return answer.json()

    def claim(self) -> dict[str, Any]:
        self.post("/runners/r/heartbeat", {"memory": 1 << 33, "slots": 9, "task_memory": 1 << 32})
        body = {"memory": 1 << 33, "slots": 9, "builds": 1, "timeout": 20}
        claimed: dict[str, Any] = self.post("/runners/r/claim", body)
        return claimed

    def deploy(self, *tasks: str) -> None:
        config = b'[project]\nname = "shop"\ntasks = ["job"]\n'
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            entry = tarfile.TarInfo("samovar.toml")
            entry.size = len(config)
            tar.addfile(entry, io.BytesIO(config))
        answer = httpx.post(
            f"{self.url}/api/v1/deployments",
            content=archive.getvalue(),
            headers={"authorization": f"Bearer {ADMIN}", "content-type": "application/octet-stream"},
        )
        answer.raise_for_status()
        build = self.claim()["builds"][0]
        schema = {
            "type": "object",
            "properties": {"n": {"type": "integer"}},
            "required": ["n"],
            "additionalProperties": False,
        }
        entries = [
            {"id": id, "module": "job", "name": id, "doc": "", "schema": schema, "options": DEFAULTS}
            for id in tasks
        ]
        index = {"sdk": "0.1.0", "python": "3.11.2", "tasks": entries}
        self.post(
            f"/builds/{build['deployment']}/done", {"token": build["token"], "image": "sha256:0", "index": index}
        )

    def run_next(self, finish: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Claim one run and end it as `finish(assignment)` says."""
        one = self.claim()["assignments"][0]
        headers = {"authorization": f"Bearer {one['secret']}"}
        path, token = f"/attempts/{one['attempt']}", {"token": one["token"]}
        self.post(f"{path}/start", {**token, "start": "cold"}, headers=headers)
        line = {"seq": 1, "at": time.time(), "level": "info", "stream": "stdout", "message": "hello"}
        self.post(f"{path}/logs", {**token, "lines": [line]}, headers=headers)
        self.post(f"{path}/checkpoint", {**token, "key": "k", "value": [1]}, headers=headers)
        self.post(f"{path}/finish", {**token, **finish(one)}, headers=headers)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    one = Fleet(tmp_path_factory.mktemp("coordinator"))
    one.deploy("square", "other")
    yield one
    one.stop()


@pytest.fixture
def client(fleet: Fleet) -> Client:
    return Client(fleet.url, ADMIN)


def square(assignment: dict[str, Any]) -> dict[str, Any]:
    return {"outcome": "completed", "result": assignment["payload"]["n"] ** 2}


def fail(assignment: dict[str, Any]) -> dict[str, Any]:
    error = {"type": "ValueError", "message": "no", "traceback": "Traceback: here", "reason": "exception"}
    return {"outcome": "failed", "error": error, "retry": {"allowed": False}}


def test_trigger_wait_and_result(fleet: Fleet, client: Client) -> None:
    run = client.trigger("square", {"n": 7}, tags=["a"], idempotency_key="once")
    assert (run.status, run.is_final) == ("queued", False)
    assert client.trigger("square", {"n": 7}, tags=["a"], idempotency_key="once").id == run.id
    waiting = threading.Thread(target=fleet.run_next, args=(square,))
    waiting.start()
    assert run.result(timeout="60s") == 49
    waiting.join()
    assert run.is_final
    assert [line["message"] for line in run.logs()] == ["hello"]
    assert [(item["key"], item["value"]) for item in run.checkpoints()] == [("k", [1])]
    assert client.run(run.id).data["tags"] == ["a"]
    assert [(item["number"], item["status"], item["egress"]) for item in run.attempts()] == [(1, "completed", [])]


def test_following_the_logs_ends_with_the_run(fleet: Fleet, client: Client) -> None:
    run = client.trigger("shop/square", {"n": 2})
    waiting = threading.Thread(target=fleet.run_next, args=(square,))
    waiting.start()
    assert [line["message"] for line in run.logs(follow=True)] == ["hello"]
    waiting.join()
    assert run.status == "completed"
    assert run.result() == 4


def test_a_failed_run_raises_with_its_traceback(fleet: Fleet, client: Client) -> None:
    run = client.trigger("square", {"n": 1})
    fleet.run_next(fail)
    with pytest.raises(RunFailed) as caught:
        run.result(timeout=60)
    error = caught.value
    assert (error.run, error.status, error.type, error.message) == (run.id, "failed", "ValueError", "no")
    assert (error.traceback, error.reason) == ("Traceback: here", "exception")
    assert "Traceback: here" in str(error)


def test_wait_gives_up_after_its_timeout_and_cancel_ends_a_queued_run(client: Client) -> None:
    run = client.trigger("square", {"n": 1}, delay="1h")
    with pytest.raises(WaitTimeout, match="is still delayed after '50ms'"):
        run.wait("50ms")
    assert run.cancel().wait("30s").status == "canceled"
    with pytest.raises(RunFailed, match="ended canceled"):
        run.result()


def test_refusals_carry_code_and_fields(client: Client) -> None:
    with pytest.raises(ApiError) as caught:
        client.trigger("square", {"n": "x", "m": 1})
    error = caught.value
    assert error.status == 422
    assert len(error.fields) == 2, error.fields
    assert all(field["path"] and field["message"] for field in error.fields)
    with pytest.raises(NotFound):
        client.trigger("no-such-task", {})
    with pytest.raises(NotFound):
        client.run("run_none")
    with pytest.raises(ApiError) as refused:
        Client(client.transport.url, "wrong").run("x")
    assert refused.value.status == 401
    with pytest.raises(samovar.NotSerializable, match=r"payload\.n: a float that is not finite"):
        client.trigger("square", {"n": float("nan")})


def test_runs_are_listed_over_pages(client: Client) -> None:
    made = [client.trigger("other", {"n": n}, delay="1h", tags=["listed", f"t{n % 2}"]).id for n in range(7)]
    assert [run.id for run in client.runs(task="other")] == made[::-1]
    assert len(list(client.runs(tags=["listed", "t1"], status=["delayed"]))) == 3
    assert [run.id for run in client.runs(task="other", limit=2)] == made[:4:-1]
    assert list(client.runs(status="completed", task="other")) == []
    assert [run.id for run in client.runs(task="other", since="1h")] == made[::-1]
    query = {"task": "other", "limit": 3}
    assert client.transport.get("/runs", query)["next"], "there are pages to go through"


def test_a_kept_connection_that_was_closed_meanwhile_is_opened_anew(fleet: Fleet, client: Client) -> None:
    run = client.trigger("square", {"n": 3})
    waiting: list[Any] = []
    thread = threading.Thread(target=lambda: waiting.append(run.result(timeout=60)))
    thread.start()
    fleet.restart()
    assert client.run(run.id).status == "queued", "what was acknowledged is there"
    fleet.run_next(square)
    thread.join()
    assert waiting == [9], "a wait outlives the restart"


def test_the_async_client_does_the_same(fleet: Fleet) -> None:
    async def use() -> Any:
        async with samovar.AsyncClient(fleet.url, ADMIN) as client:
            run = await client.trigger("square", {"n": 5})
            lines = [line["message"] async for line in run.logs(follow=True)]
            listed = [one.id async for one in client.runs(task="square", limit=1)]
            return lines, await run.result(), listed == [run.id], (await client.run(run.id)).status

    thread = threading.Thread(target=fleet.run_next, args=(square,))
    thread.start()
    assert asyncio.run(use()) == (["hello"], 25, True, "completed")
    thread.join()


def test_credentials_are_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SAMOVAR_URL", "SAMOVAR_API_KEY", "SAMOVAR_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(OptionError, match="start one here with `samovar up`"):
        Client()
    (tmp_path / ".samovar").mkdir()
    (tmp_path / ".samovar" / "credentials.json").write_text(json.dumps({"url": "http://home:1", "api_key": "h"}))
    assert Client().transport.url == "http://home:1"
    data = tmp_path / "data"
    data.mkdir()
    (data / "credentials.json").write_text(json.dumps({"url": "http://data:2", "api_key": "d"}))
    monkeypatch.setenv("SAMOVAR_DATA", str(data))
    assert Client().transport.url == "http://data:2"
    with pytest.raises(OptionError, match="no API key for http://other:4"):
        Client("http://other:4")
    monkeypatch.setenv("SAMOVAR_URL", "http://environment:3/")
    monkeypatch.setenv("SAMOVAR_API_KEY", "e")
    assert Client().transport.url == "http://environment:3"
    assert Client("http://given:5", "g").transport.url == "http://given:5"
    (data / "credentials.json").write_text("{")
    monkeypatch.delenv("SAMOVAR_URL")
    with pytest.raises(OptionError, match="can't be read"):
        Client()
    with pytest.raises(OptionError, match=r"'ftp://x' is no URL of a coordinator"):
        Client("ftp://x", "k")


def test_nobody_listening_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused for certain
        with pytest.raises(CoordinatorUnreachable, match="no answer from the coordinator at http://127"):
            Client(f"http://127.0.0.1:{taken.getsockname()[1]}", "k").run("x")


def test_a_task_triggers_with_its_options(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMOVAR_URL", fleet.url)
    monkeypatch.setenv("SAMOVAR_API_KEY", ADMIN)

    @samovar.task(id="square")
    def square(n: int) -> int:
        return n * n

    run = square.with_options(delay="1h", priority=3).with_options(tags=["x"]).trigger(n=1)
    assert (run.status, run.data["priority"], run.data["tags"]) == ("delayed", 3, ["x"])


def test_a_batch_gives_its_runs_in_order(fleet: Fleet, client: Client) -> None:
    items = [{"n": 1}, samovar.Item({"n": 2}, tags=["second"])]
    handles = client.batch_trigger("square", items, idempotency_key="batch", priority=7)
    assert [handle.refresh().data["payload"] for handle in handles] == [{"n": 1}, {"n": 2}]
    assert [handle.data["priority"] for handle in handles] == [7, 7]
    assert handles[1].data["tags"] == ["second"]
    again = client.batch_trigger("square", items, idempotency_key="batch", priority=7)
    assert [handle.id for handle in again] == [handle.id for handle in handles]
    with pytest.raises(ApiError) as refused:
        client.batch_trigger("square", [{"n": 1}, {"n": "x"}])
    assert refused.value.fields[0]["path"] == "items[1].n"
    for handle in handles:
        handle.cancel()


def test_debounced_triggers_are_one_run(fleet: Fleet, client: Client) -> None:
    first = client.trigger("square", {"n": 1}, debounce=("k", "1h"))
    second = client.trigger("square", {"n": 2}, debounce=("k", "1h"))
    assert second.id == first.id
    assert second.data["payload"] == {"n": 2}
    second.cancel()
