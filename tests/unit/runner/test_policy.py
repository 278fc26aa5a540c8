"""policy.toml: what the operator allows, and how a task that asks for more is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coordinator.wire import TaskLimits
from runner.errors import Rejected, RunnerError
from runner.policy import Policy

GIB = 1024**3


def limits(**changes: Any) -> TaskLimits:
    return TaskLimits(**{"memory": GIB, "cpu": 1.0, "timeout": 60.0, "warm": True} | changes)


def written(tmp_path: Path, text: str) -> Policy:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    return Policy.read(path)


def problems(policy: Policy, asked: TaskLimits, project: str = "orders") -> dict[str, str]:
    return {p.path: p.message for p in policy.problems(project, asked, 8 * GIB, 2)}


def test_no_file_allows_a_plain_task_and_nothing_by_name() -> None:
    policy = Policy.read(None)
    assert problems(policy, limits()) == {}
    assert "no mount 'data'" in problems(policy, limits(mounts={"data": "/data"}))["mounts.data"]
    assert "[network] open = true" in problems(policy, limits(network="open"))["network"]


def test_the_host_is_the_limit_where_the_policy_names_none() -> None:
    found = problems(Policy.read(None), limits(memory=9 * GIB, cpu=3.0))
    assert found["memory"] == "9216 MiB is more than a task may have here; ask for at most 8192 MiB"
    assert "at most 2" in found["cpu"]


def test_the_policys_limits_hold(tmp_path: Path) -> None:
    policy = written(tmp_path, '[limits]\nmemory = "512m"\ncpu = 0.5\ntimeout = "30s"\n')
    assert set(problems(policy, limits())) == {"memory", "cpu", "timeout"}
    assert problems(policy, limits(memory=512 * 1024**2, cpu=0.5, timeout=30)) == {}


def test_mounts_are_read_only_and_per_project_where_the_policy_says(tmp_path: Path) -> None:
    text = (
        f'[mounts.data]\npath = "{tmp_path}"\n'
        f'[mounts.ledger]\npath = "{tmp_path}"\nmode = "rw"\nprojects = ["orders"]\n'
    )
    policy = written(tmp_path, text)
    asked = limits(mounts={"data": "/data", "ledger": "/ledger"})
    assert policy.resolve("orders", asked, 8 * GIB, 2) == [(tmp_path, "/data", True), (tmp_path, "/ledger", False)]
    with pytest.raises(Rejected, match="no mount 'ledger' for project 'other'; it has: data"):
        policy.resolve("other", asked, 8 * GIB, 2)


@pytest.mark.parametrize(
    "target", ["data", "/", "/etc", "/usr/lib/x", "/app", "/opt/samovar/sdk", "/a/../etc", "/proc/1"]
)
def test_a_mount_never_covers_the_container_itself(tmp_path: Path, target: str) -> None:
    policy = written(tmp_path, f'[mounts.data]\npath = "{tmp_path}"\n')
    assert repr(target) in problems(policy, limits(mounts={"data": target}))["mounts.data"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[limits\n", "not TOML"),
        ('[limits]\nmemmory = "1g"\n', "limits.memmory"),
        ('[limits]\nmemory = "a lot"\n', "'a lot' is not an amount of memory"),
        ('[mounts.data]\npath = "/no/such/directory"\n', "'/no/such/directory' is not a directory"),
        ('[mounts.data]\npath = "/tmp"\nmode = "wr"\n', "mounts.data.mode"),
    ],
)
def test_a_wrong_file_is_named_with_key_and_value(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(RunnerError) as error:
        written(tmp_path, text)
    assert "policy.toml" in str(error.value)
    assert said in str(error.value)


def test_shares_are_parts_of_the_host_or_numbers(tmp_path: Path) -> None:
    usual = Policy.read(None).shares_of(8 * GIB, 10)
    assert (usual.usual.memory, usual.usual.slots, usual.projects) == (6 * GIB, 7, {})
    policy = written(tmp_path, '[shares]\nmemory = "50%"\n[shares.projects.orders]\nmemory = "1g"\nslots = "1%"\n')
    found = policy.shares_of(8 * GIB, 10)
    assert (found.usual.memory, found.usual.slots) == (4 * GIB, 7)
    assert (found.projects["orders"].memory, found.projects["orders"].slots) == (GIB, 1)


@pytest.mark.parametrize(
    "text", ['memory = "0%"', 'memory = "101%"', "slots = 0", 'slots = "half"', "slots = -1", "cpu = 1"]
)
def test_a_share_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(RunnerError, match="shares"):
        written(tmp_path, f"[shares]\n{text}\n")


def test_bases_are_pythons_and_ours_where_nobody_says_more(tmp_path: Path) -> None:
    assert Policy.read(None).images.bases == ["python", "samovar/base:bookworm"]
    policy = written(tmp_path, '[images]\nbases = ["registry.example/team/*"]\nbase_size = "1g"\n')
    assert (policy.images.bases, policy.images.base_size) == (["registry.example/team/*"], GIB)
    with pytest.raises(RunnerError, match=r"images\.bases.*lower case"):
        written(tmp_path, '[images]\nbases = ["Team/Base"]\n')


@pytest.mark.parametrize(
    ("text", "builds", "usual"),
    [
        ("", 4, 1),
        ("", 1, 1),
        ("[shares]\nbuilds = 3", 4, 3),
        ('[shares]\nbuilds = "50%"', 4, 2),
        ('[shares]\nbuilds = "100%"', 4, 3),
        ("[shares]\nbuilds = 9", 2, 1),
    ],
)
def test_no_project_has_all_builds(tmp_path: Path, text: str, builds: int, usual: int) -> None:
    assert written(tmp_path, text).build_shares(builds).usual == usual


def test_a_project_has_a_share_of_builds_of_its_own(tmp_path: Path) -> None:
    shares = written(tmp_path, "[shares.projects.orders]\nbuilds = 2\n").build_shares(4)
    assert (shares.of("orders"), shares.of("shop")) == (2, 1)


def test_builds_reach_what_the_policy_adds(tmp_path: Path) -> None:
    assert Policy.read(None).builds.hosts == []
    hosts = ["code.example:443", "*.files.example:443", "10.0.0.5:8080"]
    assert written(tmp_path, f"[builds]\nhosts = {hosts}\n").builds.hosts == hosts


@pytest.mark.parametrize("host", ["code.example", "https://code.example", "Code.example:443", "*:443", "0x7f.1:80"])
def test_a_host_for_builds_that_is_none_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(RunnerError, match=r"builds\.hosts.*host:port|builds\.hosts.*four numbers"):
        written(tmp_path, f'[builds]\nhosts = ["{host}"]\n')
