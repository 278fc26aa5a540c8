"""Secrets: sealed at rest, bound to their names, opened by any of the master keys, made new by the last."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from coordinator.access import secrets
from coordinator.access.vault import BadMasterKey, Sealed, Vault
from coordinator.foundation.errors import Invalid, NotFound, TooLarge
from coordinator.foundation.limits import MAX_SECRET
from coordinator.storage.tables import secrets as table
from tests.conformance.store import Store

VALUE = "whsec_very-secret-é"


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "keys" / "master-keys")


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()


def put(store: Store, vault: Vault, name: str = "KEY", project: str = "", value: str = VALUE) -> bool:
    first = store.read(secrets.none_sealed)
    _, created = store.write(secrets.put, project, name, vault.seal(project, name, value, create=first))
    return created


def opened(store: Store, vault: Vault, project: str, name: str = "KEY") -> str | None:
    found = store.read(lambda conn, now: secrets.find(conn, project, name))
    return None if found is None else vault.open(found[0], name, found[1])


def rows(store: Store) -> list[Any]:
    return store.read(lambda conn, now: list(conn.execute(select(table).order_by(table.c.name, table.c.project))))


def add_key(vault: Vault) -> None:
    with vault.path.open("ab") as file:
        file.write(base64.b64encode(os.urandom(32)) + b"\n")


def test_what_is_stored_is_not_the_value_and_opens_to_it(store: Store, vault: Vault) -> None:
    assert put(store, vault)
    assert stat.S_IMODE(vault.path.stat().st_mode) == 0o600
    (row,) = rows(store)
    assert VALUE.encode() not in bytes(row.data)
    assert opened(store, vault, "orders") == VALUE
    # the same value again is other bytes: a fresh nonce each time
    assert not put(store, vault)
    (again,) = rows(store)
    assert (again.nonce != row.nonce, again.data != row.data, again.created_at) == (True, True, row.created_at)


def test_a_projects_own_goes_before_that_of_every_project(store: Store, vault: Vault) -> None:
    put(store, vault, value="shared")
    put(store, vault, project="orders", value="own")
    assert (opened(store, vault, "orders"), opened(store, vault, "other")) == ("own", "shared")
    removed = store.write(secrets.remove, "orders", "KEY")
    assert (removed.project, removed.name) == ("orders", "KEY")
    assert opened(store, vault, "orders") == "shared"
    with pytest.raises(NotFound, match="no secret 'KEY' of orders; there is one of every project"):
        store.write(secrets.remove, "orders", "KEY")


@pytest.mark.parametrize("change", [{"name": "OTHER"}, {"project": "orders"}, {"data": b"x" * 40}])
def test_a_row_that_was_moved_or_changed_does_not_open(store: Store, vault: Vault, change: dict[str, Any]) -> None:
    put(store, vault)
    store.write(lambda conn, now: conn.execute(update(table).values(**change)))
    with pytest.raises(BadMasterKey, match="was changed in the database"):
        opened(store, vault, "orders", change.get("name", "KEY"))


def test_a_new_master_key_seals_everything_anew_and_the_old_one_may_go(store: Store, vault: Vault) -> None:
    put(store, vault, "ONE")
    put(store, vault, "TWO", "orders")
    first = vault.current()
    add_key(vault)
    assert vault.current() != first
    assert opened(store, vault, "orders", "ONE") == VALUE  # by the old line
    assert store.write(secrets.seal_anew, vault) == 2
    assert store.write(secrets.seal_anew, vault) == 0
    lines = vault.path.read_text().splitlines()
    vault.path.write_text(lines[-1] + "\n")
    assert {row.key for row in rows(store)} == {vault.current()}
    assert [opened(store, vault, "orders", name) for name in ("ONE", "TWO")] == [VALUE, VALUE]


def test_a_row_whose_key_is_gone_is_left_as_it_is_and_named(store: Store, vault: Vault) -> None:
    put(store, vault)
    vault.path.unlink()
    with pytest.raises(BadMasterKey, match="cannot be read"):
        put(store, vault, "TWO")  # a new file would not open what is there
    assert not vault.path.exists()
    vault.path.write_text(base64.b64encode(os.urandom(32)).decode())
    vault.path.chmod(0o600)
    assert store.write(secrets.seal_anew, vault) == 0
    with pytest.raises(BadMasterKey, match=f"has not the key {rows(store)[0].key} that sealed the secret 'KEY'"):
        opened(store, vault, "orders")


def test_a_file_that_others_can_read_is_not_used(store: Store, vault: Vault) -> None:
    put(store, vault)
    vault.path.chmod(0o640)
    for use in (lambda: put(store, vault), lambda: opened(store, vault, ""), vault.current):
        with pytest.raises(BadMasterKey, match=r"others can read .*master-keys \(mode 640\): chmod 600"):
            use()


@pytest.mark.parametrize(("text", "words"), [("", "has no key"), ("# none\n", "has no key"), ("YQ==\n", "line 1")])
def test_a_file_without_a_usable_key_is_said_to_be_so(vault: Vault, text: str, words: str) -> None:
    vault.path.write_text(text)
    vault.path.chmod(0o600)
    with pytest.raises(BadMasterKey, match=words):
        vault.seal("", "KEY", VALUE)


def test_the_listing_has_pages_and_no_values(store: Store, vault: Vault) -> None:
    for name, project in (("B", ""), ("A", "orders"), ("B", "orders"), ("C", "other")):
        put(store, vault, name, project)
    page, cursor = store.read(secrets.listing, None, None, 3)
    rest, end = store.read(secrets.listing, None, cursor, 3)
    assert [(row.name, row.project) for row in page + rest] == [
        ("A", "orders"),
        ("B", ""),
        ("B", "orders"),
        ("C", "other"),
    ]
    assert end is None
    usable, _ = store.read(secrets.listing, "orders", None, 10)
    assert [(row.name, row.project) for row in usable] == [("A", "orders"), ("B", ""), ("B", "orders")]
    assert set(page[0]._mapping) == {"project", "name", "created_at", "updated_at"}


@pytest.mark.parametrize(
    ("name", "value", "project", "field"),
    [
        ("1KEY", "v", "", "name"),
        ("MY-KEY", "v", "", "name"),
        ("", "v", "", "name"),
        ("K" * 129, "v", "", "name"),
        ("KEY", "", "", "value"),
        ("KEY", None, "", "value"),
        ("KEY", 7, "", "value"),
        ("KEY", "a\0b", "", "value"),
        ("KEY", "a\ud800", "", "value"),
        ("KEY", "v", "Orders", "project"),
    ],
)
def test_bad_names_and_values_are_refused_without_the_value(
    name: str, value: Any, project: str, field: str
) -> None:
    with pytest.raises(Invalid) as error:
        secrets.check(project, name, value)
    assert [f.path for f in error.value.fields] == [field]


def test_a_value_beyond_the_limit_is_refused(vault: Vault) -> None:
    assert secrets.check("", "KEY", "x" * MAX_SECRET)
    with pytest.raises(TooLarge, match=str(MAX_SECRET)):
        secrets.check("", "KEY", "x" * (MAX_SECRET + 1))
    sealed = vault.seal("", "KEY", "x", create=True)
    assert isinstance(sealed, Sealed)
    assert vault.open("", "KEY", sealed) == "x"
