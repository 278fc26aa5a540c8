"""From a task's network to what its container and the sidecar are told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.wire import Assignment, ContainerState, Register, TaskLimits
from runner.attempt import Host
from runner.errors import RunnerError
from runner.policy import Policy
from runner.reach import Network, egress, hosts, normal, relays, told
from runner.reconcile import register_again
from runner.spec import ContainerKey
from tests.fakes import FakeEngine
from tests.unit.runner.test_attempt import Told, with_host
from tests.unit.runner.test_policy import limits, problems, written
from tests.unit.runner.test_pool import World

LIST = ("*.s3.example:443", "10.0.0.5:6379", "api.example:443", "db.internal:5432", "db.internal:5433")


def key(**changes: Any) -> ContainerKey:
    assignment = Assignment(
        attempt="a", token=1, secret="s", run="r", number=1, project="p", task="t", version="20260101.1",
        deployment="d", image="i", payload={}, trace_id="0" * 32, lease=30,
        limits=TaskLimits(memory=64 << 20, cpu=1, timeout=60, warm=True, **changes),
    )  # fmt: skip
    policy = Policy()
    policy.learn(None)  # as where there is gVisor
    return ContainerKey.of(assignment, policy, 1 << 40, 8)


def test_a_kept_process_is_beside_no_run_of_another_kind() -> None:
    assert key(isolation="inline").digest != key().digest
    assert key(isolation="container") == key(isolation="process") == key()
    assert key(isolation="inline", trust="untrusted") == key(trust="untrusted"), "nothing untrusted is kept"


def test_containers_are_shared_where_they_reach_the_same() -> None:
    one = key(network=["b.example:1", "a.example:1"])
    assert one == key(network=["a.example:1", "b.example:1", "a.example:1"])
    assert one.digest == key(network=["a.example:1", "b.example:1"]).digest
    others = [key(network=other) for other in ("public", "none", ["a.example:1"], ["a.example:2", "b.example:1"])]
    assert len({one.digest, *(other.digest for other in others)}) == 5


def test_each_name_has_a_loopback_address_of_its_own() -> None:
    assert relays(LIST) == [
        ("127.0.0.2", 443, "api.example"),
        ("127.0.0.3", 5432, "db.internal"),
        ("127.0.0.3", 5433, "db.internal"),
    ]
    assert hosts(LIST) == {"api.example": "127.0.0.2", "db.internal": "127.0.0.3"}
    assert key(network=["api.example:443"]).hosts == {"task": "127.0.0.1", "api.example": "127.0.0.2"}
    assert [hosts(network) for network in ("none", "public", "open")] == [{}, {}, {}]


def test_the_proxy_is_there_for_what_has_no_address() -> None:
    def given(network: str | tuple[str, ...]) -> dict[str, Any] | None:
        text = told(network)
        return None if text is None else json.loads(text)

    assert given("none") is None
    assert given("open") is None
    assert given("public") == {"proxy": "127.0.0.1:3128", "relays": [], "direct": []}
    assert given(("api.example:443",)) == {
        "proxy": None, "relays": [["127.0.0.2", 443, "api.example"]], "direct": ["api.example"],
    }  # fmt: skip
    listed = given(LIST)
    assert listed is not None
    assert listed["proxy"] == "127.0.0.1:3128"
    assert listed["direct"] == ["api.example", "db.internal"]
    assert given(("10.0.0.5:80",)) == {"proxy": "127.0.0.1:3128", "relays": [], "direct": []}


@pytest.mark.parametrize("name", ["s3.example", "a.s3.example", "example"])
def test_what_a_client_would_take_for_all_below_it_goes_by_the_proxy(name: str) -> None:
    given = json.loads(told(("*.s3.example:443", f"{name}:443", "other.example:443")) or "")
    assert given["direct"] == ["other.example"]


def test_the_container_is_told_and_no_other(tmp_path: Path) -> None:
    assert "SAMOVAR_EGRESS" not in key(network="none").environment
    assert json.loads(key(network="public").environment["SAMOVAR_EGRESS"])["proxy"]


def test_the_sidecar_is_told_what_the_policy_lets_it_reach(tmp_path: Path) -> None:
    text = (
        '[network]\nprivate = ["db.internal:5432", "x.s3.example:443", "y.s3.example:80", "other:1", '
        '"10.0.0.5:6379"]\nports = [8443]\nconnections = 9\nbytes = "1g"\nidle = "1m"\n'
    )
    policy = written(tmp_path, text).network
    assert egress("none", policy) is None
    assert egress("open", policy) is None
    public = egress("public", policy)
    assert public is not None
    assert (public.mode, public.hosts, public.private, public.ports) == ("public", [], [], [8443])
    assert (public.connections, public.bytes, public.idle) == (9, 1 << 30, 60)
    listed = egress(LIST, policy)
    assert listed is not None
    assert (listed.mode, listed.hosts, listed.ports) == ("list", list(LIST), [])
    assert listed.private == ["db.internal:5432", "x.s3.example:443", "10.0.0.5:6379"]


def test_a_list_is_normal_whatever_its_order() -> None:
    assert normal(["b:1", "a:1", "b:1"]) == ("a:1", "b:1")
    assert normal("public") == "public"


@pytest.mark.parametrize(
    "item",
    ["A.example:443", "a.example", "a.example:0", "a.example:70000", "a.example:443\n", "a..example:1",
     "a.example.:1", "[::1]:443", "*:443", "x" * 300 + ":1", "a b:1",
     "a:1 127.0.0.1", "2130706433:80", "0x7f.1:80", "10.0.0.5:80"],
)  # fmt: skip
def test_what_a_deployer_has_made_up_is_refused(item: str) -> None:
    assert "network" in problems(Policy(), limits(network=[item]))


def test_what_the_host_allows_is_said(tmp_path: Path) -> None:
    policy = written(tmp_path, '[network]\nprivate = ["10.0.0.5:5432"]\n')
    asked = limits(network=["10.0.0.5:5432", "db.internal:5432", "*.s3.example:443"])
    assert problems(policy, asked) == {}
    assert 'private = ["10.0.0.5:5432"]' in problems(Policy(), asked)["network"]
    assert problems(Policy(), limits(network="public")) == {}
    assert "'all' is none" in problems(Policy(), limits(network="all"))["network"]
    assert "101 hosts" in problems(Policy(), limits(network=[f"h{n}:1" for n in range(101)]))["network"]


@pytest.mark.parametrize(
    "text",
    ['private = ["db.internal"]', 'private = ["*.internal:1"]', 'private = ["DB:1"]', "ports = [0]", "ports = 443",
     "connections = 0", 'bytes = "a lot"', 'bytes = "0"', 'idle = "0s"', "opne = true"],
)  # fmt: skip
def test_a_policy_that_can_not_be_meant_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(RunnerError, match=r"network\."):
        written(tmp_path, f"[network]\n{text}\n")


def test_a_policy_without_a_word_has_limits() -> None:
    assert Network() == Network(open=False, private=[], ports=[], connections=256, bytes=None, idle=300)


def test_every_registration_says_what_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Register] = []

    async def test(w: World, host: Host, _: Told) -> None:
        real = host.sidecar.register

        async def register(container: str, body: Register) -> ContainerState:
            told.append(body)
            return await real(container, body)

        monkeypatch.setattr(host.sidecar, "register", register)
        asked = key(network=["db.internal:5432"])
        container = await host.pool.acquire(w.assignment(), replace(asked, image=next(iter(w.engine.images))))
        container.state = "busy"
        await register_again(host)
        assert len(told) >= 2
        assert {tuple(body.egress.hosts) if body.egress else None for body in told} == {("db.internal:5432",)}

    with_host(FakeEngine(), test, tmp_path)


def test_the_tasks_are_read_with_the_variables_of_a_usual_container() -> None:
    from images.deployment import _EGRESS

    expected = json.loads(key(network="public").environment["SAMOVAR_EGRESS"])
    assert json.loads(_EGRESS["SAMOVAR_EGRESS"]) == {name: expected[name] for name in ("proxy", "relays")}
