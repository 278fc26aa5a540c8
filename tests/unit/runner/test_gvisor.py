"""Code that is not trusted: what the host needs for it, what it may have, and who holds its memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from coordinator.wire import TaskLimits
from runner import gvisor
from runner.errors import EngineError, Rejected
from runner.policy import Policy
from runner.spec import ContainerKey
from tests.unit.runner.test_building import OPTIONS, Told, built

MIB = 1024**2
GIB = 1024**3
RUNSC = {"runc": {"path": "runc"}, "runsc": {"path": "runsc"}}


def limits(**changes: Any) -> TaskLimits:
    return TaskLimits(
        **{"memory": 256 * MIB, "cpu": 1.0, "timeout": 60.0, "warm": True, "trust": "untrusted"} | changes
    )


def policy(text: str = "", tmp_path: Path | None = None) -> Policy:
    path = None
    if tmp_path is not None:
        path = tmp_path / "policy.toml"
        path.write_text(text)
    made = Policy.read(path)
    made.learn(None)
    return made


def problems(given: Policy, asked: TaskLimits) -> dict[str, str]:
    return {p.path: p.message for p in given.problems("orders", asked, 8 * GIB, 2)}


def test_an_engine_without_runsc_is_told_with_the_remedy() -> None:
    assert gvisor.problem(RUNSC) is None
    said = gvisor.problem({"runc": {}}) or ""
    assert "gVisor" in said
    assert "daemon.json" in said


def test_until_the_engine_has_been_asked_there_is_no_sandbox() -> None:
    assert "gVisor" in problems(Policy.read(None), limits())["trust"]
    with pytest.raises(Rejected, match="gVisor"):
        Policy.read(None).resolve("orders", limits(), 8 * GIB, 2)


def test_a_plain_one_is_taken() -> None:
    assert problems(policy(), limits()) == {}


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"memory": GIB}, "memory"),
        ({"cpu": 2.0}, "cpu"),
        ({"timeout": 7200.0}, "timeout"),
        ({"pids": 65}, "pids"),
        ({"scratch": 65 * MIB}, "scratch"),
        ({"network": "open"}, "network"),
        ({"network": "public"}, "network"),
        ({"mounts": {"data": "/data"}}, "mounts.data"),
    ],
)
def test_it_may_have_less_than_others(tmp_path: Path, asked: dict[str, Any], named: str) -> None:
    given = policy(f'[network]\nopen = true\n[mounts.data]\npath = "{tmp_path}"\n', tmp_path)
    assert named in problems(given, limits(**asked))
    if named not in ("network",):
        assert named not in problems(given, limits(trust="project", **asked))


def test_the_operator_may_give_more(tmp_path: Path) -> None:
    given = policy('[untrusted]\nmemory = "2g"\npids = 256\n', tmp_path)
    assert problems(given, limits(memory=2 * GIB, pids=256)) == {}


def test_what_it_gets_without_a_word_is_less_too() -> None:
    given = policy()
    assert given.pids(limits()) == 64 < given.pids(limits(trust="project"))
    assert given.scratch(limits()) == 64 * MIB < given.scratch(limits(trust="project"))


def test_a_word_that_is_none_is_refused() -> None:
    assert 'give "project" or "untrusted"' in problems(policy(), limits(trust="gvisor"))["trust"]


def test_its_container_is_no_others() -> None:
    def key(trust: str) -> ContainerKey:
        return ContainerKey("p", "i", GIB, 1.0, "none", (), trust, 64, MIB)

    assert key("untrusted").digest != key("project").digest
    assert (key("untrusted").untrusted, key("project").untrusted) == (True, False)


# ---------------------------------------------------------------- at deploy


def untrusted(**options: Any) -> dict[str, Any]:
    return {"id": "t", "options": {**OPTIONS, "trust": "untrusted", **options}}


def test_a_deploy_is_refused_where_there_is_no_gvisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    built([untrusted()], told, tmp_path, monkeypatch)
    (failed,) = told.failed
    assert [field.path for field in failed.error.fields] == ["t.trust"]


def test_it_is_warned_of_where_another_host_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    elsewhere = Policy.model_validate({"untrusted": {"elsewhere": True}})
    built([untrusted()], told, tmp_path, monkeypatch, policy=elsewhere)
    assert len(told.done) == 1
    assert any("warning" in line and "gVisor" in line for line in told.lines)


def test_secrets_are_refused_whatever_the_sdk_has_let_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    built([untrusted(secrets=["KEY"])], told, tmp_path, monkeypatch, policy=policy())
    (failed,) = told.failed
    assert [field.path for field in failed.error.fields] == ["t.secrets"]


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize(
    ("arguments", "limited"),
    [
        ([], True),
        (["--network=none"], True),
        (["--ignore-cgroups"], False),
        (["-ignore-cgroups=true"], False),
        (["--ignore-cgroups=false"], True),
    ],
)
def test_who_holds_the_limit_is_read_from_the_runtime(arguments: list[str], limited: bool) -> None:
    assert gvisor.is_limited({"runsc": {"runtimeArgs": arguments}}) == limited


def test_what_a_sandbox_has_taken_is_the_size_of_its_memory() -> None:
    memory = os.memfd_create("runsc-memory")
    try:
        os.truncate(memory, GIB)  # what is not touched is not taken
        os.pwrite(memory, b"x" * 8 * MIB, 0)
        assert 8 * MIB <= (gvisor.taken(os.getpid()) or 0) < 16 * MIB
    finally:
        os.close(memory)
    assert gvisor.taken(os.getpid()) is None


def test_a_sandbox_that_cannot_be_seen_is_an_error_and_not_taken_for_a_small_one() -> None:
    with pytest.raises(EngineError, match="can't be seen"):
        gvisor.taken(2**22 + 1)
