"""What a task finds when it looks around, on the shipped defaults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.security.attempts import attempt
from tests.stack import Stack, stack
from tests.waiting import eventually


@pytest.fixture(scope="module")
def samovar() -> Iterator[Stack]:
    with stack() as made:
        made.deploy("probe")
        yield made


@pytest.fixture(scope="module")
def seen(samovar: Stack) -> dict[str, Any]:
    run = samovar.finished("look")
    assert run["status"] == "completed", run["error"]
    return dict(run["result"])


def test_no_interface_but_loopback_and_no_way_out(seen: dict[str, Any]) -> None:
    assert seen["interfaces"] == ["lo"]
    assert seen["outside"] in ("ENETUNREACH", "EHOSTUNREACH")


def test_no_socket_but_the_sidecars_and_process_1_has_taken_its_own(seen: dict[str, Any]) -> None:
    assert seen["sockets"] == [f"/run/samovar/{name}.sock" for name in ("egress", "run", "sidecar")]
    assert seen["second_connection"] == "ConnectionRefusedError"


def test_nobody_with_no_privileges(seen: dict[str, Any]) -> None:
    assert seen["uid"] >= 65532
    assert seen["user"] == ["task", "/home/task"]
    assert 0 not in seen["gids"]
    assert {int(value, 16) for value in seen["capabilities"].values()} == {0}
    assert seen["no_new_privileges"] == "1"
    assert seen["seccomp"] == "2"
    assert seen["core_limit"] == 0


@attempt("run", "write outside scratch", "read-only root", "EROFS, EACCES")
def test_the_root_file_system_is_read_only_and_scratch_is_not(seen: dict[str, Any]) -> None:
    scratch = {"/tmp/x", "/dev/shm/x", "/home/task/x"}
    assert {path for path, outcome in seen["writes"].items() if outcome == "allowed"} == scratch
    assert {o for path, o in seen["writes"].items() if path not in scratch} <= {"EROFS", "EACCES"}


@attempt("run", "open process 1's memory, environment, descriptors", "process 1 is not dumpable", "EACCES, EPERM")
def test_process_one_cannot_be_looked_into(seen: dict[str, Any]) -> None:
    assert set(seen["process_one"].values()) <= {"EACCES", "EPERM"}, seen["process_one"]


@attempt("run", "system calls that Docker's own profile allows or that escape", "seccomp profile", "EPERM, ENOSYS")
def test_dangerous_system_calls_are_refused(seen: dict[str, Any]) -> None:
    assert set(seen["syscalls"].values()) <= {"EPERM", "ENOSYS"}, seen["syscalls"]
    assert seen["vsock"] == "EPERM"


def test_no_credential_anywhere_in_the_container(samovar: Stack) -> None:
    """The keys of the install and the secret of the attempt itself: none is in a file, environment or argument."""
    admin = json.loads((samovar.data / "credentials.json").read_text())["api_key"]
    runner = (samovar.data / "runner" / "runner.key").read_text().strip()
    secret = (samovar.data / "server-secret").read_bytes().hex()
    for credential in (admin, runner, secret):
        half = len(credential) // 2
        run = samovar.finished("search-for", secret_halves=[credential[:half], credential[half:]])
        assert run["status"] == "completed", run["error"]
        assert run["result"] == []
    # the search finds what is there: without this the test above could not fail
    run = samovar.finished("search-for", secret_halves=["def search", "_for(secret_halves"])
    assert run["result"] == ["/app/looks.py"]


def test_the_environment_names_nothing_of_samovar(seen: dict[str, Any]) -> None:
    names = set(seen["environment"])
    assert not {name for name in names if "KEY" in name or "TOKEN" in name or "SECRET" in name}
    assert not {name for name in names if name.startswith(("SAMOVAR_", "DOCKER_"))}


def idle(samovar: Stack) -> set[str]:
    """The containers that stand ready, once none is busy, starting or leaving."""

    def all_idle() -> list[dict[str, Any]] | None:
        entries = [entry for runner in samovar.cli("pool")["items"] for entry in runner["containers"]]
        return entries if all(entry["state"] == "idle" for entry in entries) else None

    return {entry["container"] for entry in eventually(lambda: all_idle() or None, "an idle pool")}


def names(samovar: Stack) -> set[str]:
    return {name.lstrip("/") for container in samovar.containers() for name in container["Names"]}


def test_a_run_finds_nothing_of_the_run_before_it(samovar: Stack) -> None:
    samovar.finished("globals-of-last-run", mark="one")
    assert idle(samovar)
    second = samovar.finished("globals-of-last-run", mark="two")
    assert second["timings"]["start"] == "warm"
    assert second["result"] == {"tmp": False, "home": False, "shm": False, "module": False, "environment": False}


def test_a_process_left_behind_costs_the_container_its_reuse(samovar: Stack) -> None:
    samovar.finished("globals-of-last-run", mark="three")
    before = idle(samovar)
    run = samovar.finished("leaves-a-process")
    assert (run["status"], run["timings"]["start"]) == ("completed", "warm")
    # its container is among those; a clean run would have left them all
    eventually(lambda: len(before - names(samovar)) == 1, "one to go", 20)


# ---------------------------------------------------------------- who holds what


def environment_of(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(entry.decode().split("=", 1) for entry in entries if b"=" in entry)


def loaded(pid: int, part: str) -> bool:
    return part in Path(f"/proc/{pid}/maps").read_text()


def test_each_process_is_given_one_dangerous_thing_or_none(samovar: Stack) -> None:
    pids = samovar.pids()
    environments = {part: environment_of(pid) for part, pid in pids.items()}
    for part in ("coordinator", "sidecar"):
        assert not [n for n in environments[part] if n.startswith("DOCKER_")], part
        assert not [v for v in environments[part].values() if "docker.sock" in v], part
    for part in ("runner", "sidecar"):
        assert not [n for n in environments[part] if "DATABASE" in n], part
        assert not loaded(pids[part], "_sqlite3"), part
        assert not loaded(pids[part], "psycopg"), part
    assert not [n for n in environments["sidecar"] if n.endswith("_KEY")]
    assert loaded(pids["coordinator"], "_sqlite3")


def test_docker_variables_reach_the_runner_alone() -> None:
    with stack(DOCKER_HOST="unix:///var/run/docker.sock") as samovar:
        environments = {part: environment_of(pid) for part, pid in samovar.pids().items()}
        assert "DOCKER_HOST" in environments["runner"]
        assert "DOCKER_HOST" not in environments["coordinator"]
        assert "DOCKER_HOST" not in environments["sidecar"]
