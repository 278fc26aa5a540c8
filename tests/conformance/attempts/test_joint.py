"""What several attempts say in one call: each with its own secret, each answered on its own, on both databases."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

from coordinator.api.fleet import together
from coordinator.context import Coordinator
from coordinator.foundation.errors import StorageUnavailable
from coordinator.storage import groups
from coordinator.storage.database import Database
from tests.conformance.attempts.joint import answered, batch, item, send
from tests.conformance.databases import fresh_database
from tests.conformance.store import queue, task_entry
from tests.unit.coordinator.conftest import Api, error, ok, serving

Served = tuple[Api, Coordinator]


@pytest.fixture(params=["sqlite", "postgresql"])
def served(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    # how many are committed together is for their number to say, and not for a clock
    monkeypatch.setattr(groups, "_BUDGET", 1e9)
    monkeypatch.setattr(groups, "_SLOW", 1e9)
    data = tmp_path / "data"
    data.mkdir()
    if request.param == "sqlite":
        shutil.copyfile(request.getfixturevalue("migrated"), data / "coordinator.db")
        with serving(data) as found:
            yield found
        return
    with fresh_database(request.getfixturevalue("postgres")) as url, serving(data, url) as found:
        yield found


def claimed(api: Api, count: int) -> list[dict[str, Any]]:
    api.deploy()
    for _ in range(count):
        api.trigger()
    return list(api.claim(timeout=10, memory=64 * 2**30, most=100)["assignments"])


@contextmanager
def commits(database: Database) -> Iterator[list[int]]:
    """How many transactions with a change in them are committed while the block runs."""
    seen: list[int] = []
    changed: set[int] = set()

    def executed(conn: Connection, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            changed.add(id(conn))

    def committed(conn: Connection) -> None:
        if id(conn) in changed:
            changed.discard(id(conn))
            seen.append(1)

    event.listen(database._writer, "after_cursor_execute", executed)
    event.listen(database._writer, "commit", committed)
    yield seen
    event.remove(database._writer, "after_cursor_execute", executed)
    event.remove(database._writer, "commit", committed)


def test_a_run_that_is_short_begins_and_ends_in_one_call(served: Served) -> None:
    api, _ = served
    (one,) = claimed(api, 1)
    start, end = item(one, "start", start="warm"), item(one, "finish", outcome="completed", result={"n": 1})
    start[0]["waited"], end[0]["waited"] = 0.5, 0.25
    found = batch(api, one, start, item(one, "checkpoint", key="k", value=[1]), end)
    assert [each.status for each in found] == [200] * 3
    assert found[1].body == {"stored": True, "value": [1]}
    assert found[2].body == {"run": one["run"], "status": "completed"}
    run = api.run(one["run"])
    assert (run["status"], run["result"]) == ("completed", {"n": 1})
    assert run["timings"]["start"] == "warm"
    # it began when it was said, and not when that arrived; but not before it was claimed
    assert 0 <= run["timings"]["run_ms"] <= 500
    assert run["started_at"] < run["finished_at"]


def test_many_items_are_few_commits(served: Served) -> None:
    api, core = served
    attempts = claimed(api, 30)
    carrier = attempts[0]
    with commits(core.database) as seen:
        items = [item(each, "start", start="warm") for each in attempts]
        items += [item(each, "finish", outcome="completed", result=n) for n, each in enumerate(attempts)]
        found = batch(api, carrier, *items)
    assert [each.status for each in found] == [200] * 60
    # (some are other writers': the maintenance's)
    assert len(seen) <= 6
    assert [api.run(each["run"])["result"] for each in attempts] == list(range(30))


def test_each_item_is_refused_on_its_own(served: Served) -> None:
    api, _ = served
    good, other, gone = claimed(api, 3)
    ok(api.attempt(gone, "finish", outcome="failed"))
    for each in (good, other):
        ok(api.attempt(each, "start", start="cold"))
    stale = {**good, "token": good["token"] + 1}
    forged = item(other, "checkpoint", key="x", value=1)
    forged[0]["secret"] = good["secret"]
    found = batch(
        api,
        good,
        item(good, "checkpoint", key="a", value=1),
        ({"attempt": good["attempt"]}, b"{}"),
        ({**item(good, "report")[0]}, b"{"),
        item(good, "checkpoint", value=1),
        item(stale, "checkpoint", key="b", value=1),
        forged,
        item(good, "secrets"),
        item(good, "lost", reason="lost", message=""),
        item(good, "finish", outcome="what"),
        item(gone, "report", progress={}),
        ({**item(good, "report")[0]}, b'{"token": NaN}'),
        ({**item(good, "report")[0]}, b'{"token": 1, "token": 2}'),
        ({**item(good, "report")[0]}, b""),
        item(good, "checkpoint", key="c", value=3),
    )
    statuses = [each.status for each in found]
    assert statuses == [200, 422, 422, 422, 409, 403, 404, 404, 422, 409, 422, 422, 422, 200]
    assert found[4].body["error"]["code"] == "stale_attempt"
    assert found[3].body["error"]["fields"][0]["path"] == "key"
    kept = ok(api.admin.get(f"/api/v1/runs/{good['run']}/checkpoints"))["items"]
    assert [each["key"] for each in kept] == ["a", "c"]
    assert ok(api.admin.get(f"/api/v1/runs/{other['run']}/checkpoints"))["items"] == []


def test_a_refusal_says_what_the_single_call_says(served: Served) -> None:
    api, _ = served
    (one,) = claimed(api, 1)
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("checkpoint", {"key": "", "value": 1}),
        ("start", {"start": "lukewarm"}),
        ("report", {"metadata": {"x": "y" * 70_000}}),
        ("extend", {"seconds": 366 * 86400 + 1}),
        ("wait", {"key": "w", "kind": "sleep", "spec": {"seconds": "soon"}}),
    ]
    for action, body in bodies:
        alone = api.attempt(one, action, **body)
        (joint,) = batch(api, one, item(one, action, **body))
        if not joint.alone:
            assert (joint.status, joint.body) == (alone.status_code, alone.json())


def test_a_batch_is_nobodys_who_has_no_secret(served: Served) -> None:
    api, _ = served
    one, other = claimed(api, 2)
    body = json.dumps(item(one, "start", start="warm")[0]).encode() + b"\n{}\n"
    error(send(api, {**one, "secret": other["secret"]}, body), 403, "forbidden")
    error(send(api, {**one, "secret": "1.x"}, body), 403, "forbidden")
    too_large = send(api, one, b"x" * (together.MOST_BYTES + 1))
    assert too_large.status_code == 413


def test_what_would_hold_up_others_is_to_be_sent_alone(served: Served) -> None:
    api, _ = served
    (one,) = claimed(api, 1)
    ok(api.attempt(one, "start", start="cold"))
    large = "x" * (together.MOST_ANSWER + 1)
    ok(api.attempt(one, "checkpoint", key="large", value=large))
    found = batch(
        api,
        one,
        item(one, "checkpoint-get", key="large"),
        item(one, "checkpoint", key="large", value=1),
        item(one, "checkpoint", key="other", value=large),
        item(one, "wait", key="w", kind="run", name="greet", spec={"payload": {}}),
        item(one, "checkpoint-get", key="none"),
    )
    assert [each.alone for each in found] == [True, True, True, True, False]
    assert found[-1].body == {"found": False, "value": None}
    many = [item(one, "checkpoint-get", key="none")] * (together.MOST_ITEMS + 3)
    assert [each.alone for each in batch(api, one, *many)] == [False] * together.MOST_ITEMS + [True] * 3


def test_an_attempt_does_not_end_before_it_has_begun(served: Served) -> None:
    api, _ = served
    one, other = claimed(api, 2)
    ends = [item(each, "finish", outcome="completed", result=1) for each in (one, other)]
    found = batch(
        api, one, item(one, "start", start="lukewarm"), ends[0], item(other, "start", start="warm"), ends[1]
    )
    assert [each.status for each in found] == [422, 200, 200, 200]
    # a start that was judged, and refused, holds up no end
    assert [api.run(each["run"])["status"] for each in (one, other)] == ["completed", "completed"]


def test_a_wait_and_its_suspension_go_together(served: Served) -> None:
    api, _ = served
    (one,) = claimed(api, 1)
    ok(api.attempt(one, "start", start="cold"))
    found = batch(
        api,
        one,
        item(one, "wait", key="t", kind="token", spec={"timeout": 60}),
        item(one, "finish", outcome="waiting", waits=["t"]),
    )
    assert [each.status for each in found] == [200, 200]
    assert found[0].body["state"] == "pending"
    assert api.run(one["run"])["status"] == "waiting"
    ok(api.client(None).post(f"/tokens/{found[0].body['id']}", json=5))
    again = api.claim_one()
    assert again["run"] == one["run"]
    assert [each["key"] for each in again["waits"]] == ["t"]


def test_a_failure_handler_that_has_to_be_checked_first_ends_the_run_alone(served: Served) -> None:
    """Its payload is checked outside of the transaction, for which a batch does not wait."""
    api, _ = served
    api.deploy(task_entry("greet", on_failure="mend"), task_entry("mend", {"type": "object"}))
    api.trigger()
    one = api.claim_one()
    found = batch(api, one, item(one, "start", start="cold"), item(one, "finish", outcome="failed"))
    if found[1].alone:
        ok(api.attempt(one, "finish", outcome="failed"))
    assert api.run(one["run"])["status"] == "failed"
    assert api.claim_one()["task"] == "mend"


def test_a_commit_that_fails_is_503_for_each_and_leaves_nothing(served: Served) -> None:
    api, core = served
    attempts = claimed(api, 2)

    def full(conn: Connection) -> None:
        raise StorageUnavailable("the disk is full")

    event.listen(core.database._writer, "commit", full)
    try:
        found = batch(api, attempts[0], *(item(each, "finish", outcome="completed") for each in attempts))
    finally:
        event.remove(core.database._writer, "commit", full)
    assert [each.status for each in found] == [503, 503]
    assert [api.run(each["run"])["status"] for each in attempts] == ["running", "running"]
    found = batch(api, attempts[0], *(item(each, "finish", outcome="completed") for each in attempts))
    assert [each.status for each in found] == [200, 200]


def test_a_batch_that_comes_twice_counts_once(served: Served) -> None:
    api, _ = served
    (one,) = claimed(api, 1)
    line = {"seq": 1, "at": 1.0, "level": "info", "stream": "stdout", "message": "hello"}
    items = [
        item(one, "start", start="cold"),
        item(one, "checkpoint", key="k", value=1),
        item(one, "logs", lines=[line]),
    ]
    end = item(one, "finish", outcome="completed", result=1)
    first = batch(api, one, *items, end)
    assert [each.status for each in first] == [200] * 4
    second = batch(api, one, *items, end)
    assert second[-1] == first[-1]
    assert len(ok(api.admin.get(f"/api/v1/runs/{one['run']}/logs"))["items"]) == 1
    assert len(ok(api.admin.get(f"/api/v1/runs/{one['run']}/checkpoints"))["items"]) == 1


def test_a_limit_of_a_queue_is_free_in_the_same_commit(served: Served) -> None:
    api, _ = served
    api.deploy(task_entry("greet", queue=queue(concurrency=1)))
    for _ in range(2):
        api.trigger()
    (one,) = api.claim(timeout=10)["assignments"]
    batch(api, one, item(one, "start", start="cold"), item(one, "finish", outcome="completed"))
    assert api.claim_one()["run"] != one["run"]


def test_lines_that_are_no_pairs_hurt_nobody(served: Served) -> None:
    api, _ = served
    (one,) = claimed(api, 1)
    head, body = item(one, "start", start="cold")
    found = answered(send(api, one, json.dumps(head).encode() + b"\n" + body + b"\n" + json.dumps(head).encode()))
    assert [each.status for each in found] == [200, 422]
    assert answered(send(api, one, b"\n\n\n"))[0].status == 422
    assert send(api, one, b"").content in (b"", b"\n")
