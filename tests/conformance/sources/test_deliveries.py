"""Deliveries of webhooks: kept with their run in one transaction, once by their sender's id, dead ones replayed."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from coordinator.access import secrets
from coordinator.access.signatures import SCHEMES, Verified
from coordinator.access.vault import Vault
from coordinator.deployments import deployments
from coordinator.foundation.errors import Conflict, Invalid, NotFound, RateLimited
from coordinator.sources import deliveries, webhooks
from coordinator.sources.deliveries import Accepted, Body, Filter, Planned, Received
from coordinator.storage.database import Database
from coordinator.storage.tables import deliveries as table
from coordinator.storage.tables import runs as runs_table
from coordinator.storage.values import Stored, decode
from coordinator.tasks.payloads import Payloads
from tests.conformance.store import Store, queue, task_entry

ANY = {"payload": {}, "headers": {"type": "object"}, "delivery_id": {"type": "string"}}


def entry(
    id: str = "pay",
    path: str = "stripe",
    secret: str | None = "WHSEC",
    properties: dict[str, Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties or ANY, "required": [], "additionalProperties": False}
    return task_entry(id, schema, webhook={"path": path, "secret": secret, "scheme": None}, **options)


def deliver(
    store: Store, body: bytes = b'{"n": 1}', id: str | None = "d1", path: str = "stripe", database: Any = None
) -> Accepted:
    """What is done with a delivery whose signature fits."""
    read, write = (store.read, store.write) if database is None else (database.read_now, database.write_now)
    webhook = read(webhooks.find, "orders", path)
    received = Received(webhook, Verified("stripe", id), {"content-type": "application/json"}, body)
    planned = read(deliveries.prepare, received, store.payloads if database is None else Payloads())
    if not isinstance(planned, Planned):
        return Accepted(planned, False, set())
    payload = Stored()
    if planned.plan is not None and planned.plan.payload is not None:
        payload = Stored(planned.plan.payload.text, None, planned.plan.payload.size)
    accepted: Accepted = write(deliveries.accept, received, planned, payload, Body(body, None))
    return accepted


def replay(store: Store, delivery: str) -> Any:
    body = store.read(deliveries.get, delivery).body
    planned = store.read(deliveries.prepare_replay, delivery, body, store.payloads)
    assert planned.payload is not None
    return store.write(deliveries.replay, delivery, planned, Stored(planned.payload.text)).row


def count(store: Store) -> tuple[int, int]:
    """How many deliveries and runs there are."""

    def look(conn: Any, now: float) -> tuple[int, int]:
        return tuple(conn.scalar(select(func.count()).select_from(t)) for t in (table, runs_table))  # type: ignore[return-value]

    return store.read(look)


def test_a_delivery_becomes_a_run_with_what_its_task_declares(store: Store) -> None:
    store.deploy(entry(), entry("count", "count", properties={"delivery_id": {"type": "string"}}))
    row, created, topics = deliver(store)
    assert (row.status, created, topics, row.problem) == ("delivered", True, {"claims"}, None)
    assert decode(store.run(row.run_id).payload) == {
        "payload": {"n": 1},
        "headers": {"content-type": "application/json"},
        "delivery_id": "d1",
    }
    assert (bytes(row.body), row.size) == (b'{"n": 1}', 8)
    other, _, _ = deliver(store, path="count")
    assert decode(store.run(other.run_id).payload) == {"delivery_id": "d1"}
    assert store.unlisted() == []


@pytest.mark.parametrize("body", [b"plain text", b"", b"[1, NaN]", b"[" * 100_000, b"9" * 5000])
def test_a_body_that_is_no_json_is_given_as_text(store: Store, body: bytes) -> None:
    store.deploy(entry())
    row, _, _ = deliver(store, body)
    given = decode(store.run(row.run_id).payload)["payload"]
    assert given == body.decode("utf-8", "replace")
    assert bytes(row.body) == body


def test_the_same_delivery_is_the_same_run(store: Store) -> None:
    store.deploy(entry(), entry("other", "other"))
    first = deliver(store)
    again = deliver(store, b'{"changed": true}')
    assert (again.created, again.row.id, again.row.run_id) == (False, first.row.id, first.row.run_id)
    # at another webhook it is another delivery, and without an id each is one of its own
    assert deliver(store, path="other").created
    own = [deliver(store, id=None) for _ in range(2)]
    assert [accepted.row.sender_id for accepted in own] == [accepted.row.id for accepted in own]
    assert count(store) == (4, 4)


def test_the_same_delivery_at_once_by_many_is_one_run(store: Store) -> None:
    store.deploy(entry())
    databases = [Database(store.url) for _ in range(4)]
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda database: deliver(store, database=database), databases * 3))
    finally:
        for database in databases:
            database.close()
    assert sum(accepted.created for accepted in found) == 1
    assert len({accepted.row.run_id for accepted in found}) == 1
    assert count(store) == (1, 1)


def test_a_payload_that_does_not_fit_is_dead_until_it_is_replayed(store: Store) -> None:
    store.deploy(entry(properties={"payload": {"type": "array"}}))
    row, created, topics = deliver(store)
    assert (row.status, row.run_id, created, topics) == ("dead", None, True, set())
    assert row.problem == "the payload of 'pay' is wrong: payload: {'n': 1} is not a list"
    assert count(store) == (1, 0)
    with pytest.raises(Invalid, match="is not a list"):
        replay(store, row.id)
    store.deploy(entry())
    again = replay(store, row.id)
    assert (again.status, again.problem, again.replays) == ("delivered", None, 1)
    assert decode(store.run(again.run_id).payload)["payload"] == {"n": 1}
    # one that was delivered may be replayed too: a new run of it
    more = replay(store, row.id)
    assert (more.replays, more.run_id != again.run_id) == (2, True)
    assert deliver(store).row.run_id == more.run_id


def test_a_task_that_is_gone_leaves_its_deliveries_dead(store: Store) -> None:
    first = store.deploy(entry(), entry("open", "open", secret=None))
    store.deploy(task_entry("greet"))
    row, created, _ = deliver(store)
    assert (row.status, created, row.task) == ("dead", True, "pay")
    assert row.problem == "the current deployment of orders has no webhook 'stripe': deploy it and replay"
    with pytest.raises(Conflict, match="has no webhook 'stripe'") as error:
        replay(store, row.id)
    assert error.value.code == "webhook_gone"
    # nobody may fill the store at an address that checks nothing and leads nowhere
    with pytest.raises(NotFound):
        deliver(store, path="open")
    store.write(deployments.promote, first)
    assert replay(store, row.id).status == "delivered"
    assert deliver(store, path="open").row.status == "delivered"


def test_another_task_may_take_over_a_webhook(store: Store) -> None:
    store.deploy(entry("old"))
    row = deliver(store).row
    claimed = store.claim_one()  # a task that has unfinished runs is not taken away without a word
    store.start(claimed)
    store.complete(claimed)
    store.deploy(entry("new"))
    assert replay(store, row.id).task == "new"
    assert deliver(store, id="d2").row.task == "new"


def test_a_queue_that_refuses_leaves_nothing_for_its_sender_to_come_again(store: Store) -> None:
    narrow = queue("narrow", rate={"limit": 1, "period": 60}, rate_excess="refuse")
    store.deploy(entry(queue=narrow))
    assert deliver(store).row.status == "delivered"
    with pytest.raises(RateLimited):
        deliver(store, id="d2")
    assert count(store) == (1, 1)
    store.now += 61
    assert deliver(store, id="d2").created


def test_unknown_addresses_are_not_found(store: Store) -> None:
    store.deploy(entry())
    for project, path in (("orders", "strip"), ("orders", ""), ("other", "stripe")):
        with pytest.raises(NotFound) as error:
            store.read(webhooks.find, project, path)
        assert error.value.code == "unknown_webhook"


def test_the_secret_is_the_projects_own_else_everybodys(store: Store, tmp_path: Path) -> None:
    vault = Vault(tmp_path / "master-keys")
    log_of = store.deploy(entry(), entry("open", "open", secret=None))
    assert store.read(webhooks.find, "orders", "stripe").sealed is None
    store.write(secrets.put, "", "WHSEC", vault.seal("", "WHSEC", "shared", create=True))
    store.write(secrets.put, "orders", "WHSEC", vault.seal("orders", "WHSEC", "own"))
    found = store.read(webhooks.find, "orders", "stripe").sealed
    assert found is not None
    assert vault.open(found[0], "WHSEC", found[1]) == "own"
    # what was missing, and what is unsigned, is said in the build's log
    lines, _ = store.read(deployments.read_log, log_of, 0, 10)
    text = "\n".join(line.line for line in lines)
    assert "until its secret is set: samovar secrets set WHSEC --project orders" in text
    assert "the webhook 'open' of open is unsigned" in text
    again, _ = store.read(deployments.read_log, store.deploy(entry()), 0, 10)
    assert "secret" not in "\n".join(line.line for line in again)


def test_listings_have_pages_and_filters(store: Store) -> None:
    store.deploy(entry(), entry("b", "b", properties={"payload": {"type": "array"}}))
    store.deploy(entry("a", "z"), project="other")
    for number in range(3):
        deliver(store, id=f"d{number}")
    deliver(store, path="b")
    page, cursor = store.read(deliveries.listing, Filter(limit=3))
    rest, end = store.read(deliveries.listing, Filter(limit=3, cursor=cursor))
    assert [row.sender_id for row in page + rest] == ["d1", "d2", "d1", "d0"]
    assert end is None
    assert "body" not in page[0]._mapping

    def ids(**wanted: str) -> list[str]:
        return [row.path for row in store.read(deliveries.listing, Filter(**wanted))[0]]  # type: ignore[arg-type]

    assert ids(status="dead") == ["b"]
    assert ids(webhook="b") == ["b"]
    assert ids(project="other") == []
    hooks, cursor = store.read(webhooks.listing, None, None, 2)
    more, _ = store.read(webhooks.listing, None, cursor, 2)
    assert [(row.project, row.path, is_set) for row, is_set in hooks + more] == [
        ("orders", "b", False),
        ("orders", "stripe", False),
        ("other", "z", False),
    ]


def test_private_headers_are_not_kept() -> None:
    raw = [
        (b"Content-Type", b"application/json"),
        (b"Authorization", b"Bearer x"),
        (b"Cookie", b"a=b"),
        (b"X-Hub-Signature-256", b"sha256=1"),
        (b"X-Many", b"1"),
        (b"x-many", b"\xe9"),
    ]
    kept = deliveries.kept_headers(raw, signed=True)
    assert kept == {"content-type": "application/json", "x-many": "1, é"}
    # whoever checks an unsigned one's signature in the task needs it
    assert "x-hub-signature-256" in deliveries.kept_headers(raw, signed=False)
    assert json.dumps(kept)


def test_a_delivery_that_comes_again_gets_the_run_that_the_first_never_had(store: Store) -> None:
    store.deploy(entry(ttl=10.0))
    first = deliver(store).row
    store.now += 11
    store.sweep()
    assert store.run(first.run_id).status == "expired"
    again = deliver(store)
    assert (again.created, again.row.id, again.row.status) == (True, first.id, "delivered")
    assert again.row.run_id != first.run_id
    assert store.run(again.row.run_id).origin_id == first.id
    # one that runs is not made twice
    store.claim_one()
    assert not deliver(store).created
    assert count(store) == (1, 2)


def test_a_skipped_delivery_that_comes_again_gets_its_run(store: Store) -> None:
    store.deploy(entry(queue=queue("one", concurrency=1, on_full="skip")))
    deliver(store, id="other")
    running = store.claim_one()
    skipped = deliver(store).row
    assert store.run(skipped.run_id).status == "canceled"
    store.complete(running)
    again = deliver(store).row
    assert store.run(again.run_id).status == "queued"


def test_a_dead_delivery_that_comes_again_gets_its_run_once_that_can_be(store: Store) -> None:
    store.deploy(entry(properties={"payload": {"type": "string"}}))
    dead = deliver(store).row
    assert (dead.status, dead.run_id) == ("dead", None)
    still = deliver(store)
    assert (still.created, still.row.id, still.row.status) == (True, dead.id, "dead")
    store.deploy(entry())
    alive = deliver(store)
    assert (alive.created, alive.row.id, alive.row.status, alive.row.problem) == (True, dead.id, "delivered", None)
    assert store.run(alive.row.run_id).status == "queued"
    assert count(store) == (1, 1)


def test_deliveries_that_come_again_at_once_make_one_run(store: Store) -> None:
    store.deploy(entry(ttl=10.0))
    deliver(store)
    store.now += 11
    store.sweep()
    with ThreadPoolExecutor(6) as threads:
        made = list(threads.map(lambda _: deliver(store), range(6)))
    assert sum(accepted.created for accepted in made) == 1
    assert count(store) == (1, 2)


def test_the_parameters_and_the_challenge_of_a_webhook_are_kept(store: Store) -> None:
    challenge = {"name": "meta", "query": "hub.challenge", "verify": "TOKEN", "verify_in": "token"}
    properties = {"query": {"type": "object"}}
    made = entry(properties=properties)
    made["options"]["webhook"]["challenge"] = challenge
    store.deploy(made)
    webhook = store.read(webhooks.find, "orders", "stripe")
    assert webhook.challenge is not None
    assert (webhook.challenge.query, webhook.challenge.verify, webhook.others) == (
        "hub.challenge",
        "TOKEN",
        {"TOKEN": None},
    )
    received = Received(webhook, Verified("slack", "d9"), {}, b"{}", {"a": ["1", "2"]})
    planned = store.read(deliveries.prepare, received, store.payloads)
    assert isinstance(planned, Planned)
    assert planned.plan is not None
    assert planned.plan.payload is not None
    payload = Stored(planned.plan.payload.text)
    row = store.write(deliveries.accept, received, planned, payload, Body(b"{}", None)).row
    assert (row.scheme, decode(row.query)) == ("slack", {"a": ["1", "2"]})
    assert decode(store.run(row.run_id).payload) == {"query": {"a": ["1", "2"]}}
    assert decode(store.run(replay(store, row.id).run_id).payload) == {"query": {"a": ["1", "2"]}}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_can_be_kept(store: Store, scheme: str) -> None:
    made = entry()
    made["options"]["webhook"]["scheme"] = scheme
    store.deploy(made)
    assert store.read(webhooks.find, "orders", "stripe").scheme == scheme
