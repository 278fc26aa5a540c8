"""Saved views: a key's own, so many of them, and gone with it."""

from __future__ import annotations

import pytest

from coordinator.access import keys, saved_views
from coordinator.access.saved_views import MOST
from coordinator.foundation.errors import Conflict, NotFound
from tests.conformance.store import Store


def key(store: Store, name: str) -> str:
    return str(store.write(keys.create, name, "read", None)[0].id)


def names(store: Store, key_id: str) -> list[str]:
    return [row.name for row in store.read(saved_views.listing, key_id)]


def test_views_are_their_keys_alone_and_go_with_it(store: Store) -> None:
    one, other = key(store, "one"), key(store, "other")
    assert store.write(saved_views.put, one, "failed", "/runs?status=failed")[1]
    assert store.write(saved_views.put, other, "failed", "/runs?status=lost")[1]
    row, created = store.write(saved_views.put, one, "failed", "/runs?status=failed&task=a")
    assert (row.address, created) == ("/runs?status=failed&task=a", False)
    assert [row.address for row in store.read(saved_views.listing, other)] == ["/runs?status=lost"]
    store.write(saved_views.remove, other, "failed")
    with pytest.raises(NotFound):
        store.write(saved_views.remove, other, "failed")
    assert names(store, one) == ["failed"]
    store.write(keys.revoke, "one")
    assert names(store, one) == []


def test_a_key_has_so_many_and_may_change_them_still(store: Store) -> None:
    one = key(store, "one")
    for number in range(MOST):
        store.write(saved_views.put, one, f"v{number:02}", "/runs")
    with pytest.raises(Conflict) as refused:
        store.write(saved_views.put, one, "more", "/runs")
    assert refused.value.code == "too_many"
    store.write(saved_views.put, one, "v07", "/errors")
    store.write(saved_views.remove, one, "v00")
    store.write(saved_views.put, one, "more", "/runs")
    assert len(names(store, one)) == MOST
