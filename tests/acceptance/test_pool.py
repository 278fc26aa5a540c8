"""How runs begin, why some begin cold, and what became of containers: over the public API and the command line."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.stack import SAMOVAR, Stack, deployed_projects, stack, written
from tests.waiting import eventually

pytestmark = pytest.mark.docker

CODE = """
import time
from samovar import task

@task(memory="128m")
def quick(): ...

@task(memory="128m")
def slow(seconds: float):
    time.sleep(seconds)

@task(memory="900m")
def big(): ...

@task(memory="128m", warm=False)
def once(): ...
"""


@pytest.fixture(scope="module")
def samovar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(SAMOVAR_RUNNER_MEMORY="1g", SAMOVAR_RUNNER_HEARTBEAT="500ms") as made:
        made.deploy_path(written(tmp_path_factory.mktemp("pool"), "poolsight", CODE))
        yield made


def seen(samovar: Stack) -> dict[str, Any]:
    """The pool over HTTP."""
    credentials = json.loads((samovar.data / "credentials.json").read_text())
    headers = {"Authorization": f"Bearer {credentials['api_key']}"}
    return dict(httpx.get(f"{samovar.url}/api/v1/pool", headers=headers, timeout=30).raise_for_status().json())


def containers(samovar: Stack) -> list[dict[str, Any]]:
    return [entry for runner in seen(samovar)["items"] for entry in runner["containers"]]


def states(samovar: Stack) -> set[str]:
    return {"ready" if entry["prepared"] else entry["state"] for entry in containers(samovar)}


def at_rest(samovar: Stack) -> None:
    eventually(lambda: states(samovar) <= {"idle", "ready"}, "the pool to be at rest")


def began(samovar: Stack, task: str, **payload: Any) -> dict[str, Any]:
    """How a run of `task` has begun, and where its time went."""
    return dict(samovar.finished(task, **payload)["timings"])


def test_the_first_is_cold_the_next_is_warm_and_one_may_wait_for_the_other(samovar: Stack) -> None:
    first = began(samovar, "quick")
    assert (first["start"], first["cause"], first["evicted_by"]) == ("cold", "first", None)
    phases = first["phases"]
    assert all(value is not None for value in phases.values()), phases
    assert phases["started_ms"] > 0
    assert phases["imported_ms"] > 0
    parts = ("placed_ms", "started_ms", "imported_ms", "handed_over_ms")
    assert sum(phases[part] for part in parts) == pytest.approx(first["start_ms"], abs=1.0)

    at_rest(samovar)
    warm = began(samovar, "quick")
    assert (warm["start"], warm["cause"]) == ("warm", None)
    assert (warm["phases"]["started_ms"], warm["phases"]["imported_ms"]) == (0, 0)

    # what runs of the task take is known now, and that it is less than a start
    for _ in range(3):
        began(samovar, "slow", seconds=0.3)

    def waited() -> bool:
        with samovar.client() as client:
            two = [client.trigger("slow", {"seconds": 0.3}) for _ in range(2)]
            return "waited" in {run.wait(60).data["timings"]["start"] for run in two}

    eventually(waited, "a run that waits for the other's container")


def test_where_all_are_busy_another_is_started_and_then_one_ahead_of_the_next(samovar: Stack) -> None:
    at_rest(samovar)
    with samovar.client() as client:
        # one more than have a container by now
        runs = [client.trigger("slow", {"seconds": 30.0}) for _ in range(len(containers(samovar)) + 1)]
        # or what stands ready may be what the last of them is about to take
        eventually(lambda: all(client.run(run.id).status == "running" for run in runs), "all of them to run")
        eventually(lambda: states(samovar) == {"busy", "ready"}, "a stem to stand ready beside busy ones")
        taken = began(samovar, "quick")
        assert (taken["start"], taken["cause"], taken["phases"]["started_ms"]) == ("stem", None, 0)
        causes = {run.wait(90).data["timings"]["cause"] for run in runs}
    assert "parallel" in causes


def test_who_left_for_whom_is_told_and_counted(samovar: Stack) -> None:
    at_rest(samovar)
    big = began(samovar, "big")  # which needs all the room there is, and then gives it back
    assert (big["start"], big["cause"]) == ("cold", "first")
    at_rest(samovar)
    again = samovar.finished("quick")
    timings, whose = again["timings"], {"project": "poolsight", "task": "big"}
    assert (timings["start"], timings["cause"], timings["evicted_by"]) == ("cold", "evicted", whose)
    (attempt,) = samovar.cli("runs", "attempts", again["id"])["items"]
    assert (attempt["cause"], attempt["evicted_by"], attempt["container_run"]) == ("evicted", whose, 1)
    assert samovar.cli("runs", "show", again["id"])["timings"] == timings

    assert began(samovar, "once")["cause"] == "not_kept"
    eventually(lambda: "not_kept" in {life["why"] for life in seen(samovar)["left"]}, "the last one to be told of")
    pool = samovar.cli("pool")
    for_big = [life for life in pool["left"] if life["why"] == "evicted" and life["by"] == whose]
    served = max(for_big, key=lambda life: int(life["runs"]))
    assert served["runs"] >= 5
    assert served["task"] in ("quick", "slow")
    assert served["memory"] == 128 * 1024**2
    assert served["worth"] > 0
    assert 5 <= len(served["memory_runs"]) <= 32
    assert all(0 < sample["after"] < served["memory"] for sample in served["memory_runs"])
    assert served["began_at"] < served["left_at"]
    (gave_way,) = [life for life in pool["left"] if life["task"] == "big"]
    assert (gave_way["why"], gave_way["by"]) == ("evicted", {"project": "poolsight", "task": "quick"})

    with samovar.client() as client:
        total = len(list(client.runs()))
    figures = pool["hour"]
    assert figures["runs"] == total == sum(figures[start] for start in ("warm", "stem", "waited", "cold"))
    assert figures["cold"] == sum(figures["causes"].values())
    assert figures["causes"] | {"first": 2, "evicted": 1, "not_kept": 1} == figures["causes"]
    assert figures["hits"] == pytest.approx(1 - figures["cold"] / total)


def test_people_read_the_same(samovar: Stack, capfd: pytest.CaptureFixture[str]) -> None:
    run = samovar.finished("once")
    text = plain(samovar, "runs", "show", run["id"])
    assert "cold (not_kept)" in text
    assert "handed over" in text
    eventually(lambda: "not_kept" in plain(samovar, "pool"), "the container's end to be told of")
    text = plain(samovar, "pool")
    assert "last hour:" in text
    assert "without a start" in text
    assert "poolsight" in text


def plain(samovar: Stack, *arguments: str) -> str:
    """What a person sees of a command."""
    command = [SAMOVAR, "--data", str(samovar.data), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_a_new_version_has_one_ready_where_its_task_ran_before(samovar: Stack, tmp_path: Path) -> None:
    began(samovar, "quick")
    at_rest(samovar)
    old = {entry["container"] for entry in containers(samovar)}
    samovar.deploy_path(written(tmp_path, "poolsight", CODE + "\n# another version\n"))

    def fresh() -> bool:
        found = [e for e in containers(samovar) if e["container"] not in old]
        return any(e["prepared"] and e["state"] == "idle" for e in found)

    eventually(fresh, "one of the new version to stand ready")
    assert began(samovar, "quick")["start"] == "stem"
    eventually(lambda: "superseded" in {life["why"] for life in seen(samovar)["left"]}, "the old one to have left")


CLOCK = """
from samovar import Cron, task

@task(memory="96m", schedule=Cron("* * * * *"))
def every_minute(): ...
"""


def test_a_tick_finds_a_container_ready_though_its_task_never_ran(samovar: Stack, tmp_path: Path) -> None:
    path = written(tmp_path, "clockwork", CLOCK)
    made = samovar.cli("deploy", str(path), "--no-promote")
    deployed_projects.add("clockwork")
    # not so late in the minute that nothing could be prepared for the tick
    eventually(lambda: 1 <= time.time() % 60 <= 35, "the right moment")
    samovar.cli("deployments", "promote", made["version"], "--project", "clockwork")

    def ticked() -> list[dict[str, Any]]:
        return list(samovar.cli("runs", "list", "--project", "clockwork", "--status", "completed")["items"])

    first = eventually(ticked, "the first tick", 120)[-1]
    assert first["timings"]["start"] == "stem"
    samovar.cli("schedules", "pause", samovar.cli("schedules", "list", "--project", "clockwork")["items"][0]["id"])
