"""Sessions of the dashboard: begun with a key or a link, over with their time or their key."""

from __future__ import annotations

from sqlalchemy import select

from coordinator.access import keys, sessions
from coordinator.access.keys import hash_key
from coordinator.storage.tables import sessions as table
from coordinator.storage.tables import sign_in_links
from tests.conformance.store import Store


def new_key(store: Store, name: str = "k", role: keys.Role = "read", project: str | None = None) -> str:
    row, _ = store.write(keys.create, name, role, project)
    return str(row.id)


def test_a_session_is_its_key_for_as_long_as_both_last(store: Store) -> None:
    key = new_key(store)
    cookie = store.write(sessions.open, key)
    caller = store.read(sessions.caller_of, hash_key(cookie))
    assert caller is not None
    assert (caller.id, caller.role, caller.name, caller.project) == (key, "read", "k", None)
    assert store.read(sessions.caller_of, hash_key(cookie + "x")) is None
    assert cookie not in str(store.read(lambda conn, now: conn.execute(select(table)).all())), "its hash is kept"
    store.now += sessions.SESSION - 1
    assert store.read(sessions.caller_of, hash_key(cookie)) is not None
    store.now += 2
    assert store.read(sessions.caller_of, hash_key(cookie)) is None


def test_a_revoked_key_ends_its_sessions_and_links(store: Store) -> None:
    key, other = new_key(store), new_key(store, "other")
    cookie, kept = store.write(sessions.open, key), store.write(sessions.open, other)
    secret, _ = store.write(sessions.make_link, key, "/")
    store.write(keys.revoke, "k")
    assert store.read(sessions.caller_of, hash_key(cookie)) is None
    assert store.write(sessions.use_link, hash_key(secret)) is None
    assert store.read(sessions.caller_of, hash_key(kept)) is not None


def test_a_session_that_was_ended_is_over_and_others_are_not(store: Store) -> None:
    key = new_key(store)
    first, second = store.write(sessions.open, key), store.write(sessions.open, key)
    store.write(sessions.end, hash_key(first))
    store.write(sessions.end, hash_key(first))
    assert store.read(sessions.caller_of, hash_key(first)) is None
    assert store.read(sessions.caller_of, hash_key(second)) is not None


def test_a_link_works_once_and_in_its_time(store: Store) -> None:
    key = new_key(store)
    secret, until = store.write(sessions.make_link, key, "/runs")
    assert until == store.now + sessions.LINK
    opened = store.write(sessions.use_link, hash_key(secret))
    assert opened is not None
    assert opened.path == "/runs"
    caller = store.read(sessions.caller_of, hash_key(opened.cookie))
    assert caller is not None
    assert caller.id == key
    assert store.write(sessions.use_link, hash_key(secret)) is None
    late, _ = store.write(sessions.make_link, key, "/")
    store.now += sessions.LINK
    assert store.write(sessions.use_link, hash_key(late)) is None
    assert not store.read(lambda conn, now: conn.execute(select(sign_in_links)).all()), "what was used is gone"
