"""Errors in groups: counted, resolved, and open again where they come back."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Row, select, update

from coordinator.deployments import deployments
from coordinator.foundation.errors import Invalid, NotFound
from coordinator.history import errors as reading
from coordinator.history import groups
from coordinator.storage.tables import errors
from coordinator.storage.values import decode
from tests.conformance.history.test_folding import fact, fold_all, tell
from tests.conformance.store import Store

AT = 1_800_000_000.0
FP = "a" * 16


def error(**values: Any) -> dict[str, Any]:
    plain = {"outcome": "failed", "status": "failed", "reason": "exception", "error_type": "ValueError"}
    return fact(**{**plain, "title": "no", "fingerprint": FP, **values})


def group(store: Store, fingerprint: str = FP, project: str = "orders") -> Row[Any]:
    query = select(errors).where(errors.c.project == project, errors.c.fingerprint == fingerprint)
    return store.read(lambda conn, now: conn.execute(query).one())


def resolve(store: Store, at: float, version: str | None) -> None:
    values = {"resolved_at": at, "resolved_version": version}
    store.write(lambda conn, now: conn.execute(update(errors).values(values)))


def test_a_group_knows_what_it_is_of(store: Store) -> None:
    tell(store, [
        error(status=None, run_id="run_1", title="order 1"),
        error(at=AT + 5, run_id="run_1", task="charge", version="20260102.1", title="order 1 again"),
        error(at=AT + 3, run_id="run_2", version="20260101.10", title="order 2"),
        error(project="bakery"),
    ])  # fmt: skip
    fold_all(store, 1)
    row = group(store)
    assert (row.count, row.runs, row.first_seen, row.last_seen) == (3, 2, AT, AT + 5)
    assert (row.error_type, row.title, row.last_run, row.last_version) == (
        "ValueError", "order 1 again", "run_1", "20260102.1",
    )  # fmt: skip
    assert set(decode(row.tasks)) == {"greet", "charge"}
    assert decode(row.versions) == ["20260102.1", "20260101.10", "20260101.1"]
    assert sum(decode(row.spark).values()) == 3
    assert group(store, project="bakery").count == 1


def test_a_cancel_is_no_error(store: Store) -> None:
    tell(store, [error(reason="canceled", outcome="canceled", status="canceled")])
    fold_all(store)
    assert store.read(lambda conn, now: conn.execute(select(errors)).all()) == []


def test_lists_are_bounded(store: Store) -> None:
    hours = [error(at=AT + 3600 * n, task=f"t{n}", version=f"20260101.{n}") for n in range(60)]
    tell(store, hours)
    fold_all(store, 7)
    row = group(store)
    assert decode(row.tasks) == [f"t{n}" for n in range(59, 39, -1)]
    assert decode(row.versions) == [f"20260101.{n}" for n in range(59, 39, -1)]
    assert len(decode(row.spark)) == groups.SPARK
    assert row.count == 60


@pytest.mark.parametrize(
    ("version", "at", "reopened"),
    [
        ("20260101.10", AT + 10, False),  # before it was resolved
        ("20260101.10", AT + 200, True),
        ("20260101.9", AT + 200, False),  # a run of an earlier version still goes on
        ("20260101.11", AT + 200, True),
        ("20260102.1", AT + 10, True),
    ],
)
def test_what_comes_back_is_open_again(store: Store, version: str, at: float, reopened: bool) -> None:
    tell(store, [error()])
    fold_all(store)
    resolve(store, AT + 100, "20260101.10")
    tell(store, [error(version=version, at=at)])
    fold_all(store)
    row = group(store)
    assert (row.resolved_at is None) == reopened
    assert row.reopened_at == (at if reopened else None)
    assert row.count == 2


def test_without_a_version_whatever_is_later_opens_it(store: Store) -> None:
    tell(store, [error()])
    fold_all(store)
    resolve(store, AT + 100, None)
    tell(store, [error(at=AT + 50)])
    fold_all(store)
    assert group(store).resolved_at == AT + 100
    tell(store, [error(at=AT + 150)])
    fold_all(store)
    assert group(store).resolved_at is None


def test_groups_beyond_the_most_are_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "MOST_GROUPS", 2)
    tell(store, [error(fingerprint=f"{n:016x}") for n in (1, 2, 3, 4, 1)])
    fold_all(store, 2)
    rows = store.read(lambda conn, now: conn.execute(select(errors.c.fingerprint, errors.c.count)).all())
    assert {row.fingerprint: row.count for row in rows} == {f"{1:016x}": 2, f"{2:016x}": 1, groups.OTHER: 2}


# ---------------------------------------------------------------- looked at, and what is said of them


def listed(store: Store, **wanted: Any) -> list[str]:
    items, _ = store.read(reading.listing, reading.Wanted(**wanted))
    return [item.fingerprint[0] for item in items]


def several(store: Store) -> None:
    store.now = AT + 100
    tell(store, [
        error(at=AT + n, fingerprint=letter * 16, task=task, project=project)
        for n, (letter, task, project) in enumerate(
            [("a", "greet", "orders"), ("b", "Greet", "orders"), ("c", "bake", "bakery"), ("d", "greet", "orders")]
        )
    ])  # fmt: skip
    fold_all(store)


def test_they_are_listed_those_seen_last_first(store: Store) -> None:
    several(store)
    assert listed(store) == ["d", "c", "b", "a"]
    assert listed(store, project="orders") == ["d", "b", "a"]
    assert listed(store, task="greet") == ["d", "a"]
    assert listed(store, since=AT + 2) == ["d", "c"]
    found: list[str] = []
    cursor = None
    while True:
        items, cursor = store.read(reading.listing, reading.Wanted(limit=1, cursor=cursor))
        found += [item.fingerprint[0] for item in items]
        if cursor is None:
            break
    assert found == ["d", "c", "b", "a"]
    with pytest.raises(Invalid, match="cursor"):
        listed(store, cursor="nonsense")


def test_what_is_said_of_them_is_their_status(store: Store) -> None:
    several(store)
    version = store.deploy()
    store.write(reading.resolve, "orders", "a" * 16, None)
    store.write(reading.mute, "orders", "b" * 16, store.now + 60)
    assert listed(store, status="resolved") == ["a"]
    assert listed(store, status="muted") == ["b"]
    assert listed(store, status="open") == ["d", "c"]
    resolved = store.read(reading.get, "orders", "a" * 16)
    current = store.read(deployments.get, version)[0].version
    assert (resolved.status, resolved.resolved_version) == ("resolved", current)
    store.now += 61
    assert listed(store, status="open") == ["d", "c", "b"]
    assert store.write(reading.reopen, "orders", "a" * 16).status == "open"
    assert listed(store, status="resolved") == []


def test_wrong_words_are_refused(store: Store) -> None:
    several(store)
    with pytest.raises(Invalid, match="is no version of orders"):
        store.write(reading.resolve, "orders", "a" * 16, "20990101.1")
    with pytest.raises(Invalid, match="is not after now"):
        store.write(reading.mute, "orders", "a" * 16, store.now)
    for say in (reading.get, reading.reopen):
        with pytest.raises(NotFound, match="there is no error"):
            store.write(say, "bakery", "a" * 16)


def test_a_spark_ends_with_the_current_hour(store: Store) -> None:
    several(store)
    assert store.read(reading.get, "orders", FP).spark == [0] * 23 + [1]
    store.now += 3600
    assert store.read(reading.get, "orders", FP).spark == [0] * 22 + [1, 0]
    store.now += 24 * 3600
    assert store.read(reading.get, "orders", FP).spark == [0] * 24
