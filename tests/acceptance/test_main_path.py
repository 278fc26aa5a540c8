"""From `@task` to a result out of a container, by way of the command line and the client."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from samovar import RunFailed
from samovar.errors import ApiError

from coordinator.wire import Trace
from tests import traced
from tests.stack import SAMOVAR, Stack, copied, stack
from tests.waiting import eventually


@pytest.fixture(scope="module")
def samovar() -> Iterator[Stack]:
    with stack() as made:
        made.deploy("probe")
        yield made


def trigger(samovar: Stack, task: str, *options: str, code: int = 0, **payload: Any) -> dict[str, Any]:
    return dict(samovar.cli("trigger", task, "--payload", json.dumps(payload), *options, code=code))


def test_a_deploy_says_what_it_made(samovar: Stack) -> None:
    deployed = samovar.deploy("probe")
    assert set(deployed) >= {"project", "version", "image", "tasks"}
    assert deployed["project"] == "probe"
    assert {"add", "five-steps", "takes"} <= {task["id"] for task in deployed["tasks"]}


def test_trigger_and_wait_is_the_run_as_over_http(samovar: Stack) -> None:
    run = trigger(samovar, "add", "--wait", a=2, b=3)
    assert (run["status"], run["result"], run["attempts"], run["error"]) == ("completed", 5, 1, None)
    assert run["timings"]["start"] in ("warm", "stem", "waited", "cold")
    assert all(run["timings"][name] >= 0 for name in ("queued_ms", "start_ms", "run_ms"))
    assert 1024**2 < run["usage"]["peak_memory_bytes"] < run["usage"]["memory_limit_bytes"] == 96 * 1024**2
    assert samovar.cli("runs", "show", run["id"])["result"] == 5


def test_what_a_start_imports_comes_from_one_file(samovar: Stack) -> None:
    found = trigger(samovar, "read-by-themselves", "--wait")["result"]
    # (the first of its own, and what `site` looks for on Debian)
    assert set(found["alone"]) <= {"beginning", "sitecustomize"}
    assert found["bundled"] > 60
    # a module of it is a module like any other, and what comes later is looked for where Python looks
    # (for logging, which is not imported yet)
    assert found["finders"] == ["_Hook", "BuiltinImporter", "FrozenImporter", "PathFinder"]
    assert found["file"] == "/opt/samovar/sdk/samovar/harness/process.py"
    assert found["cached"]
    assert found["source"].startswith("def main(")
    assert found["resources"]
    assert found["reloaded"] == "samovar.values.tracebacks"


def test_an_async_task_runs(samovar: Stack) -> None:
    assert trigger(samovar, "add-async", "--wait", a=2, b=3)["result"] == 5


def test_follow_shows_the_log_as_it_comes_and_ends_with_the_run(samovar: Stack) -> None:
    command = [SAMOVAR, "--data", str(samovar.data), "trigger", "add", "--payload", '{"a": 1}', "--follow"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "adding 1 and 1" in done.stdout + done.stderr


def test_a_failed_run_is_exit_code_1(samovar: Stack) -> None:
    run = trigger(samovar, "aborts", "--wait", code=1)
    assert run["status"] == "failed"
    with samovar.client() as client, pytest.raises(RunFailed, match="this order is forged"):
        client.run(run["id"]).result()


def test_output_keeps_its_level_its_stream_and_its_logger(samovar: Stack) -> None:
    run = samovar.finished("talks")
    assert run["result"] == "talks 1 probe"
    lines = samovar.cli("runs", "logs", run["id"])
    told = {(line["stream"], line["level"], line["logger"], line["message"]) for line in lines}
    assert ("stdout", "info", None, "printed") in told
    assert ("stderr", "warning", None, "to stderr") in told
    assert ("logging", "warning", "shop.till", "the till is open") in told
    assert run["progress"]["fraction"] == 0.5
    assert run["logs"]["warning"] >= 2
    assert sum(run["logs"].values()) == len(lines)
    assert run["metadata"] == {"customer": {"id": 7}}


def test_where_the_time_of_a_run_went_is_seen_in_it(samovar: Stack) -> None:
    run = trigger(samovar, "five-steps", book="traced", gate=3)
    path = samovar.ledger / "traced"
    eventually(lambda: path.exists() and "3" in path.read_text(), "the third step")

    def held() -> float:
        spans = samovar.cli("runs", "trace", run["id"])["spans"]
        return max([span["end_ms"] - span["begin_ms"] for span in spans if span["kind"] == "ran"], default=0.0)

    begun = held()  # before that, whatever the steps before it took
    eventually(lambda: held() > begun + 600, "the step to take its time")
    (samovar.ledger / "traced.go").touch()
    assert samovar.cli("runs", "wait", run["id"], "--timeout", "60")["status"] == "completed"
    found = samovar.cli("runs", "trace", run["id"])
    ledger = traced.check(Trace.model_validate(found))
    assert ledger["ran"] > 600
    assert ledger["started"] > 0
    assert ledger["imported"] > 0
    took = {s["name"]: s["end_ms"] - s["begin_ms"] for s in found["spans"] if s["kind"] == "checkpoint"}
    assert list(took) == [f"step-{n}" for n in range(1, 6)]
    assert took["step-3"] > 500 > took["step-4"]
    checkpoints = samovar.cli("checkpoints", run["id"])["items"]
    assert all(item["begun_at"] <= item["created_at"] for item in checkpoints)
    (attempt,) = samovar.cli("runs", "attempts", run["id"])["items"]
    curve, usage = attempt["usage"]["curve"], attempt["usage"]
    assert 1024**2 < max(curve["points"]) <= usage["peak_memory_bytes"] + 64 * 1024
    assert 2 <= len(curve["points"]) <= 120


def test_a_repeated_idempotency_key_is_the_same_run(samovar: Stack) -> None:
    with samovar.client() as client:
        first = client.trigger("add", {"a": 1}, idempotency_key="k-1")
        second = client.trigger("add", {"a": 1}, idempotency_key="k-1")
        assert first.id == second.id
        with pytest.raises(ApiError) as conflict:
            client.trigger("add", {"a": 2}, idempotency_key="k-1")
        assert conflict.value.status == 409


def test_large_values_go_there_and_back(samovar: Stack) -> None:
    value = "ä" * (1024 * 1024)
    run = samovar.finished("echo", value=value)
    assert run["status"] == "completed", run["error"]
    assert run["result"] == {"length": len(value), "value": value}


def test_memory_may_be_given_for_one_run(samovar: Stack) -> None:
    with samovar.client() as client:
        run = client.trigger("add", {"a": 1}, memory="64m").wait(60).data
    assert run["usage"]["memory_limit_bytes"] == 64 * 1024**2
    with samovar.client() as client, pytest.raises(ApiError) as refused:
        client.trigger("add", {"a": 1}, memory="900g")
    assert [field["path"] for field in refused.value.fields] == ["memory"]


def test_warm_false_is_always_a_new_container(samovar: Stack) -> None:
    starts = [samovar.finished("always-new", number=n)["timings"]["start"] for n in range(3)]
    assert starts == ["cold"] * 3


def test_the_open_network_is_there_where_the_policy_allows_it(samovar: Stack) -> None:
    interfaces = samovar.finished("sees-network")["result"]
    assert "eth0" in interfaces


def test_a_running_run_is_canceled_and_the_end_is_confirmed(samovar: Stack) -> None:
    run = trigger(samovar, "gated", book="canceled")
    eventually((samovar.ledger / "canceled").exists, "the run to begin")
    samovar.cli("runs", "cancel", run["id"])
    done = samovar.cli("runs", "wait", run["id"], "--timeout", "60", code=1)
    assert (done["status"], done["error"]["reason"]) == ("canceled", "canceled")
    attempts = {a["id"] for a in samovar.cli("runs", "attempts", run["id"])["items"]}

    def busy() -> bool:
        entries = [entry for runner in samovar.cli("pool")["items"] for entry in runner["containers"]]
        return any(entry["attempt"] in attempts and entry["state"] == "busy" for entry in entries)

    # (the pool is shown as the last heartbeat had it)
    eventually(lambda: not busy(), "its container to be free or gone")


def test_a_run_that_is_not_due_is_canceled_at_once(samovar: Stack) -> None:
    run = trigger(samovar, "add", "--delay", "1h", a=1)
    assert run["status"] == "delayed"
    assert samovar.cli("runs", "cancel", run["id"])["status"] == "canceled"


def test_a_run_replayed_is_a_new_run_with_its_payload(samovar: Stack) -> None:
    first = samovar.finished("add", a=20, b=1)
    again = samovar.cli("runs", "replay", first["id"])
    assert again["id"] != first["id"]
    assert samovar.cli("runs", "wait", again["id"], "--timeout", "60")["result"] == 21


def test_runs_are_listed_newest_first_and_by_status(samovar: Stack) -> None:
    ids = [samovar.finished("add", a=n)["id"] for n in range(3)]
    listed = samovar.cli("runs", "list", "--task", "add", "--status", "completed")["items"]
    assert [run["id"] for run in listed[:3]] == ids[::-1]


def test_runs_in_flight_stay_on_their_version(samovar: Stack, tmp_path: Path) -> None:
    path = copied("probe", tmp_path)
    first = samovar.deploy_path(path)
    task = f"{path.name}/gated"
    running = trigger(samovar, task, book="versions")
    eventually((samovar.ledger / "versions").exists, "the run to begin")
    source = (path / "steps.py").read_text()
    (path / "steps.py").write_text(source.replace('return "went"', 'return "went in version two"'))
    second = samovar.deploy_path(path)
    assert second["version"] != first["version"]
    (samovar.ledger / "versions.go").touch()
    old = samovar.cli("runs", "wait", running["id"], "--timeout", "60")
    assert (old["version"], old["result"]) == (first["version"], "went")
    new = trigger(samovar, task, "--wait", book="versions")
    assert (new["version"], new["result"]) == (second["version"], "went in version two")
    chosen = trigger(samovar, task, "--wait", "--version", first["version"], book="versions")
    assert chosen["result"] == "went"
    samovar.cli("deployments", "rollback", "--project", path.name)
    assert trigger(samovar, task, "--wait", book="versions")["version"] == first["version"]


def test_a_second_up_on_the_same_directory_is_refused(samovar: Stack) -> None:
    command = [SAMOVAR, "--data", str(samovar.data), "up", "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "already" in done.stderr


def test_no_coordinator_is_exit_code_3_and_no_such_run_4(samovar: Stack, tmp_path: Path) -> None:
    samovar.cli("runs", "show", "run_01k00000000000000000000000", code=4)
    (tmp_path / "credentials.json").write_text('{"url": "http://127.0.0.1:9", "api_key": "k"}')
    command = [SAMOVAR, "--data", str(tmp_path), "--json", "runs", "list"]
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 3


def test_doctor_finds_this_machine_well(samovar: Stack) -> None:
    checks = samovar.cli("doctor", code=None)["items"]
    assert not [check for check in checks if check["status"] == "fail"], checks
