"""The coordinator as a process: what it acknowledged survives its death, and it stops when told."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.ports import free_port
from tests.unit.coordinator.conftest import ADMIN, Api, error, ok
from tests.waiting import eventually


def command(data: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "coordinator", "--data", str(data), *arguments]


def environment(**more: str) -> dict[str, str]:
    keys = {"SAMOVAR_COORDINATOR_ADMIN_KEY": ADMIN}
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SAMOVAR_")}
    return {**clean, **keys, **more}


@contextmanager
def process(data: Path) -> Iterator[tuple[Api, subprocess.Popen[bytes]]]:
    port = free_port()
    log = data.parent / "log"
    with log.open("ab") as stderr:
        child = subprocess.Popen(
            command(data, "--port", str(port)), env=environment(), stderr=stderr, stdout=subprocess.DEVNULL
        )
    api = Api(f"http://127.0.0.1:{port}")

    def ready() -> bool:
        assert child.poll() is None, log.read_text()
        try:
            return api.admin.get("/readyz").is_success
        except httpx.TransportError:
            return False

    try:
        eventually(ready, "the coordinator is ready")
        yield api, child
    finally:
        api.close()
        if child.poll() is None:
            child.kill()
        child.wait()


def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with process(data) as (api, child):
        api.deploy()
        assignment = api.started(payload={"n": -1})
        ok(api.attempt(assignment, "checkpoint", key="k", value={"large": "x" * 600_000}))
        acknowledged: list[str] = []

        def trigger(n: int) -> None:
            try:
                acknowledged.append(api.trigger(payload={"n": n})["id"])
            except httpx.TransportError:
                return  # killed in the middle: not acknowledged

        with ThreadPoolExecutor(4) as pool:
            work = [pool.submit(trigger, n) for n in range(200)]
            eventually(lambda: len(acknowledged) >= 40, "40 triggers are acknowledged")
            child.kill()
            for item in work:
                item.result(60)
    with process(data) as (api, _):
        found = {run for run in acknowledged if api.run(run)["status"] == "queued"}
        assert found == set(acknowledged)
        # the attempt goes on with the secret it has: its lease has not run out
        kept = ok(api.attempt(assignment, "checkpoint-get", key="k"))
        assert kept["value"] == {"large": "x" * 600_000}
        ok(api.attempt(assignment, "finish", outcome="completed", result="r"))
        assert api.run(assignment["run"])["status"] == "completed"


def test_a_full_disk_is_503_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    """The kernel refuses the process larger files, as a full disk would; then there is room again."""
    data = tmp_path / "data"
    with process(data) as (api, child):
        api.deploy()
        size = max(path.stat().st_size for path in data.glob("coordinator.db*"))
        _, hard = resource.prlimit(child.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (size + 256 * 1024, hard))
        acknowledged = []
        answer = None
        for n in range(1000):
            answer = api.admin.post("/api/v1/tasks/greet/runs", json={"payload": {"n": n, "x": "x" * 4000}})
            if answer.status_code != 201:
                break
            acknowledged.append(answer.json()["id"])
        assert answer is not None
        error(answer, 503, "storage_unavailable")
        large = {"payload": {"x": "x" * 1_000_000}}  # goes to the blobs, which are as full
        error(api.admin.post("/api/v1/tasks/greet/runs", json=large), 503, "storage_unavailable")
        assert api.admin.get("/healthz").is_success
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (hard, hard))
        acknowledged.append(api.trigger(**large)["id"])
        page = ok(api.admin.get("/api/v1/runs", params={"limit": 500}))
        assert sorted(run["id"] for run in page["items"]) == sorted(acknowledged)
        assert not list((data / "blobs" / "incoming").iterdir())


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_long_polls_and_the_process(tmp_path: Path, sig: signal.Signals) -> None:
    with process(tmp_path / "data") as (api, child):
        api.deploy()
        run = api.trigger()["id"]
        api.claim_one()
        seen: list[str] = []

        def follow() -> None:
            with api.client(ADMIN) as client, client.stream("GET", f"/api/v1/runs/{run}/stream") as answer:
                seen.extend(answer.iter_lines())

        def held_claims() -> bool:
            return "r9" in [runner["runner"] for runner in ok(api.admin.get("/api/v1/pool"))["items"]]

        with ThreadPoolExecutor(2) as pool:
            claim = pool.submit(lambda: api.claim("r9", timeout=50))
            stream = pool.submit(follow)
            eventually(held_claims, "the claim is held")
            eventually(lambda: "event: status" in seen, "the stream has begun")
            child.send_signal(sig)
            assert claim.result(20) == {"assignments": [], "builds": []}
            stream.result(20)  # ended by the server, as a whole answer
        child.wait(20)


def test_the_port_and_the_log_are_said_in_json(tmp_path: Path) -> None:
    with process(tmp_path / "data") as (api, child):
        child.send_signal(signal.SIGTERM)
        child.wait(20)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    (listening,) = [line for line in lines if line["event"] == "listening"]
    assert listening["url"] == api.url


def run_refused(data: Path, *arguments: str, **more: str) -> tuple[int, str]:
    result = subprocess.run(
        command(data, *arguments), env=environment(**more), capture_output=True, text=True, timeout=60, check=False
    )
    return result.returncode, result.stderr


@pytest.mark.parametrize(
    ("arguments", "more", "said"),
    [
        (["--database-url", "mysql://x/y"], {}, "sqlite:///PATH or postgresql://"),
        ([], {"SAMOVAR_COORDINATOR_ADMIN_KEY": "short"}, "admin_key: 5 characters are too few"),
        (["--database-url", "postgresql://samovar@127.0.0.1:1/none"], {}, "the database cannot be used now"),
    ],
)
def test_settings_that_cannot_work_are_said_plainly(
    tmp_path: Path, arguments: list[str], more: dict[str, str], said: str
) -> None:
    code, text = run_refused(tmp_path / "data", *arguments, **more)
    assert code == 2
    assert said in text
    assert "Traceback" not in text


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, text = run_refused(tmp_path / "data", "--port", str(taken.getsockname()[1]))
    assert code != 0
    assert "address already in use" in text.lower()


def test_no_key_at_all_is_refused(tmp_path: Path) -> None:
    code, text = run_refused(tmp_path / "data", SAMOVAR_COORDINATOR_ADMIN_KEY="")
    assert (code, "admin key" in text or "admin_key" in text) == (2, True)


def test_a_secret_file_and_data_are_the_owners_alone(tmp_path: Path) -> None:
    with process(tmp_path / "data"):
        assert (tmp_path / "data" / "server-secret").stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "data").stat().st_mode & 0o077 == 0
