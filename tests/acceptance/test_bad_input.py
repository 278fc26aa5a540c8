"""Bad input, and tasks that misbehave: each a clear error on the command or the run, and Samovar unharmed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from samovar.errors import ApiError

from tests.stack import Stack, deployed_projects, stack


@pytest.fixture(scope="module")
def samovar() -> Iterator[Stack]:
    with stack() as made:
        made.deploy("probe")
        yield made
        # whatever happened above, it still does its work
        assert made.finished("add", a=1, b=2)["result"] == 3
        pids = made.pids()
        assert set(pids) == {"coordinator", "sidecar", "runner"}


# ---------------------------------------------------------------- deploys


def project(tmp_path: Path, toml: str = "", tasks: str = "", **files: str) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    (path / "samovar.toml").write_text(toml or '[project]\nname = "bad"\ntasks = ["tasks"]\n')
    (path / "tasks.py").write_text(tasks or "from samovar import task\n\n@task\ndef fine() -> int:\n    return 1\n")
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(text)
    return path


def refused(samovar: Stack, path: Path) -> str:
    """The words in which a deploy is refused; exit code 2, and one JSON document."""
    deployed_projects.add("bad")  # what was built before it was refused
    error = samovar.cli("deploy", str(path), code=2)["error"]
    fields = "; ".join(f"{f['path']}: {f['message']}" for f in error.get("fields", []))
    return f"{error['message']} {fields}"


def test_an_unknown_key_in_samovar_toml(samovar: Stack, tmp_path: Path) -> None:
    toml = '[project]\nname = "bad"\ntasks = ["tasks"]\nrequirments = "requirements.txt"\n'
    said = refused(samovar, project(tmp_path, toml))
    assert "requirments" in said
    assert "requirements" in said.replace("requirments", "")


def test_samovar_toml_that_is_no_toml(samovar: Stack, tmp_path: Path) -> None:
    said = refused(samovar, project(tmp_path, "[project\nname = 1\n"))
    assert "samovar.toml" in said
    assert "line 1" in said


def test_no_samovar_toml(samovar: Stack, tmp_path: Path) -> None:
    assert "samovar.toml" in refused(samovar, tmp_path)


def test_a_module_that_is_missing(samovar: Stack, tmp_path: Path) -> None:
    said = refused(samovar, project(tmp_path, '[project]\nname = "bad"\ntasks = ["tasks", "taskz"]\n'))
    assert "taskz" in said


def test_a_syntax_error(samovar: Stack, tmp_path: Path) -> None:
    said = refused(samovar, project(tmp_path, tasks="def broken(:\n    pass\n"))
    assert "tasks.py" in said
    assert "1" in said
    assert "def broken(:" in said


def test_two_tasks_with_one_id(samovar: Stack, tmp_path: Path) -> None:
    source = (
        "from samovar import task\n\n@task(id='twin')\ndef one() -> int:\n    return 1\n\n"
        "@task(id='twin')\ndef two() -> int:\n    return 2\n"
    )
    said = refused(samovar, project(tmp_path, tasks=source))
    assert "twin" in said
    assert "one" in said
    assert "two" in said


def test_a_requirement_that_does_not_exist(samovar: Stack, tmp_path: Path) -> None:
    path = project(tmp_path, requirements__txt="this-is-surely-not-a-package-9f2c==1.0\n")
    said = refused(samovar, path)
    assert "this-is-surely-not-a-package-9f2c" in said


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ('memory="2m"', "memory"),
        ('memory="500g"', "memory"),
        ("cpu=99", "cpu"),
        ('timeout="soon"', "timeout"),
        ('memmory="1g"', "memmory"),
        ('mounts={"nothing-there": "/data"}', "nothing-there"),
        ('network="everything"', "network='everything'"),
        ('network=["https://api.example"]', "without scheme"),
        ('network=["10.0.0.5:5432"]', "[network] private"),
        ('trust="untrusted"', "trust"),
    ],
)
def test_an_option_out_of_range(samovar: Stack, tmp_path: Path, option: str, named: str) -> None:
    source = f"from samovar import task\n\n@task({option})\ndef greedy() -> int:\n    return 1\n"
    assert named in refused(samovar, project(tmp_path, tasks=source))


def test_an_import_that_reaches_out_is_told_where_to_do_so(samovar: Stack, tmp_path: Path) -> None:
    source = 'import urllib.request\nurllib.request.urlopen("https://api.example/")\n'
    assert "connect inside of the task" in refused(samovar, project(tmp_path, tasks=source))


def test_a_failed_deploy_leaves_the_current_version_and_no_container(samovar: Stack, tmp_path: Path) -> None:
    before = samovar.cli("deployments", "list")["items"]
    refused(samovar, project(tmp_path, tasks="raise RuntimeError('at import')\n"))
    after = [d for d in samovar.cli("deployments", "list")["items"] if d["status"] == "ready"]
    assert [d["version"] for d in after] == [d["version"] for d in before if d["status"] == "ready"]
    assert samovar.finished("add", a=1)["result"] == 2


# ---------------------------------------------------------------- payloads


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        ({}, ["order_id", "count"]),
        ({"order_id": "1", "count": "three"}, ["count"]),
        ({"order_id": 1, "count": 1}, ["order_id"]),
        ({"order_id": "1", "count": True}, ["count"]),
        ({"order_id": "1", "count": 1, "colour": "red"}, ["colour"]),
        ({"order_id": "1", "count": 1, "price": "cheap", "colour": 2}, ["price", "colour"]),
    ],
)
def test_a_payload_is_refused_with_every_field_named(
    samovar: Stack, payload: dict[str, Any], named: list[str]
) -> None:
    with samovar.client() as client, pytest.raises(ApiError) as refusal:
        client.trigger("takes", payload)
    assert sorted(field["path"] for field in refusal.value.fields) == sorted(named)
    error = samovar.cli("trigger", "takes", "--payload", json.dumps(payload), code=2)["error"]
    assert sorted(field["path"] for field in error["fields"]) == sorted(named)


def test_a_payload_that_is_no_json(samovar: Stack) -> None:
    assert "payload" in samovar.cli("trigger", "takes", "--payload", "{order_id: 1}", code=2)["error"]["message"]


def test_an_unknown_task_suggests_the_near_one(samovar: Stack) -> None:
    error = samovar.cli("trigger", "taks", "--payload", "{}", code=4)["error"]
    assert "takes" in error["message"]


# ---------------------------------------------------------------- results and checkpoints


def failed(samovar: Stack, task: str, **payload: Any) -> dict[str, Any]:
    run = samovar.finished(task, **payload)
    assert run["status"] == "failed", run
    return dict(run["error"])


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("not-serialisable", ["result.items[1].handle", "TextIOWrapper"]),
        ("huge", ["result", "10"]),
        ("not-a-number", ["result.values[1]", "nan"]),
        ("bad-checkpoint", ["thing", "object"]),
    ],
)
def test_a_value_that_cannot_be_stored_is_named(samovar: Stack, task: str, said: list[str]) -> None:
    error = failed(samovar, task)
    assert error["reason"] == "exception"
    for word in said:
        assert word in error["message"]


# ---------------------------------------------------------------- output


def logs(samovar: Stack, run: dict[str, Any]) -> list[dict[str, Any]]:
    return list(samovar.cli("runs", "logs", run["id"]))


def test_200_mb_of_output_are_bounded_and_the_run_completes(samovar: Stack) -> None:
    run = samovar.finished("chatty", mebibytes=200)
    assert (run["status"], run["result"]) == ("completed", 200)
    with samovar.client() as client:
        lines = list(client.run(run["id"]).logs())
    kept = sum(len(line["message"]) for line in lines)
    assert 1024**2 < kept < 10 * 1024**2
    assert lines[-1]["stream"] == "stdout"
    (note,) = [line for line in lines if line["stream"] == "samovar"]
    assert "dropped" in note["message"]


def test_invalid_utf8_is_kept_as_far_as_it_is_text(samovar: Stack) -> None:
    run = samovar.finished("invalid-utf8")
    assert run["status"] == "completed"
    assert [line["message"] for line in logs(samovar, run)] == ["before \ufffd\ufffd after"]


# ---------------------------------------------------------------- resources


def test_a_fork_bomb_meets_the_process_limit(samovar: Stack) -> None:
    run = samovar.finished("fork-bomb")
    assert run["status"] == "completed", run["error"]
    assert 1 <= run["result"] < 128


def test_a_full_tmp_is_the_tasks_own_error(samovar: Stack) -> None:
    error = failed(samovar, "full-tmp")
    assert "No space left on device" in error["message"] or error["reason"] == "out_of_memory"


def test_tmp_has_a_limit_of_files_too(samovar: Stack) -> None:
    assert 1000 < samovar.finished("many-files")["result"] < 20_000


def test_out_of_memory_comes_with_evidence_and_advice(samovar: Stack) -> None:
    run = samovar.finished("eats-memory")
    assert (run["status"], run["error"]["reason"]) == ("failed", "out_of_memory")
    assert "64 MiB" in run["error"]["message"]
    assert "memory=" in run["error"]["message"]
    assert run["usage"]["memory_limit_bytes"] == 64 * 1024**2
    assert 32 * 1024**2 < run["usage"]["peak_memory_bytes"] <= 64 * 1024**2


@pytest.mark.parametrize(
    ("task", "payload", "said"),
    [
        ("segfaults", {}, "SIGSEGV"),
        ("exits", {"code": 3}, "3"),
        ("exits-hard", {"code": 4}, "4"),
        ("kills-itself", {}, "SIGKILL"),
    ],
)
def test_an_unusual_end_is_told_as_what_it_was(
    samovar: Stack, task: str, payload: dict[str, Any], said: str
) -> None:
    error = failed(samovar, task, **payload)
    assert error["reason"] == "exception"
    assert said in error["message"]


def test_killing_everything_it_can_see_harms_its_own_container_alone(samovar: Stack) -> None:
    """The zygote is gone then. Whether that is noticed before or after the run returns is a race."""
    run = samovar.finished("kills-everything")
    assert run["status"] in ("completed", "failed")
    attempts = {a["id"] for a in samovar.cli("runs", "attempts", run["id"])["items"]}
    assert len(attempts) == 1
    after = samovar.finished("add", a=1)
    assert (after["status"], after["attempts"]) == ("completed", 1)


@pytest.mark.parametrize("task", ["too-slow", "deaf"])
def test_a_timeout_ends_the_run_whatever_it_does(samovar: Stack, task: str) -> None:
    run = samovar.finished(task)
    assert (run["status"], run["error"]["reason"]) == ("timed_out", "timeout")
    assert "1 s" in run["error"]["message"]


def test_a_traceback_shows_the_users_frames_and_causes(samovar: Stack) -> None:
    error = failed(samovar, "raises-deep")
    assert (error["type"], error["message"]) == ("ValueError", "the outer one")
    assert "KeyError: 'the inner one'" in error["traceback"]
    assert "misbehaves.py" in error["traceback"]
    assert "/opt/samovar" not in error["traceback"]


# ---------------------------------------------------------------- retries


def test_a_failure_is_retried_as_often_as_asked(samovar: Stack) -> None:
    run = samovar.finished("fails", book="twice", times=2)
    assert (run["status"], run["result"], run["attempts"]) == ("completed", 3, 3)
    run = samovar.finished("fails", book="always", times=9)
    assert (run["status"], run["attempts"]) == ("failed", 3)


def test_abort_is_not_retried_and_retry_after_sets_the_delay(samovar: Stack) -> None:
    run = samovar.finished("aborts")
    assert (run["status"], run["attempts"]) == ("failed", 1)
    assert "this order is forged" in run["error"]["message"]
    assert samovar.finished("asks-for-later", timeout=30)["attempts"] == 2
