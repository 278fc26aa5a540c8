"""The secrets of an attempt: those that its task names, to who holds the attempt, and to nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coordinator.access import secrets
from coordinator.access.vault import Vault
from coordinator.attempts import secrets as given
from coordinator.deployments import deployments
from coordinator.foundation.errors import StaleAttempt, TooLarge
from coordinator.foundation.limits import MAX_RUN_SECRETS, MAX_SECRET
from coordinator.storage.values import decode
from tests.conformance.store import Store, task_entry


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "master-keys")


def put(store: Store, vault: Vault, name: str, value: str, project: str = "") -> None:
    store.write(secrets.put, project, name, vault.seal(project, name, value, create=True))


def given_to(store: Store, vault: Vault, attempt: str, token: int) -> tuple[dict[str, str], list[str]]:
    return given.opened(vault, store.read(given.find, attempt, token))


def test_the_tasks_own_and_no_other(store: Store, vault: Vault) -> None:
    put(store, vault, "KEY", "everybody's")
    put(store, vault, "KEY", "own", "orders")
    put(store, vault, "SHARED", "shared")
    put(store, vault, "OTHER", "another task's", "orders")
    store.deploy(task_entry("greet", secrets=["KEY", "SHARED", "UNSET"]))
    claimed = store.started()
    values, missing = given_to(store, vault, claimed.attempt, claimed.token)
    assert values == {"KEY": "own", "SHARED": "shared"}
    assert missing == ["UNSET"]
    put(store, vault, "KEY", "changed", "orders")
    assert given_to(store, vault, claimed.attempt, claimed.token)[0]["KEY"] == "changed"


def test_nothing_for_an_attempt_that_is_not_held(store: Store, vault: Vault) -> None:
    put(store, vault, "KEY", "value")
    store.deploy(task_entry("greet", secrets=["KEY"]))
    claimed = store.started()
    for attempt, token in ((claimed.attempt, claimed.token - 1), ("a-none", claimed.token)):
        with pytest.raises(StaleAttempt):
            given_to(store, vault, attempt, token)
    store.complete(claimed)
    with pytest.raises(StaleAttempt):
        given_to(store, vault, claimed.attempt, claimed.token)


def test_none_for_code_that_is_not_trusted_whatever_its_image_says(store: Store, vault: Vault) -> None:
    put(store, vault, "KEY", "value")
    store.deploy(task_entry("greet", secrets=["KEY"], trust="untrusted"))
    claimed = store.started()
    assert given_to(store, vault, claimed.attempt, claimed.token) == ({}, [])


def test_more_than_a_run_may_have_is_refused(store: Store, vault: Vault) -> None:
    names = [f"KEY_{number}" for number in range(MAX_RUN_SECRETS // MAX_SECRET + 1)]
    for name in names:
        put(store, vault, name, "x" * MAX_SECRET)
    store.deploy(task_entry("greet", secrets=names))
    claimed = store.started()
    with pytest.raises(TooLarge, match=str(MAX_RUN_SECRETS)):
        given_to(store, vault, claimed.attempt, claimed.token)


def test_a_deploy_names_those_that_nobody_has_set(store: Store, vault: Vault) -> None:
    put(store, vault, "SET", "value", "orders")
    put(store, vault, "ELSEWHERE", "value", "another")
    entries = [task_entry("a", secrets=["SET", "UNSET"]), task_entry("b", secrets=["UNSET", "ELSEWHERE"])]
    deployment = store.deploy(*entries)
    found: list[dict[str, Any]] = decode(store.read(deployments.get, deployment)[0].findings)
    assert [(finding["kind"], finding["blocks"]) for finding in found] == [("secret_missing", False)] * 2
    assert "the secret ELSEWHERE of b is not set" in found[0]["message"]
    assert "the secret UNSET of a, b is not set" in found[1]["message"]
    assert "`samovar secrets set UNSET --project orders`" in found[1]["message"]
