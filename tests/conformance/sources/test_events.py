"""Events: stored once, one run for each task that listens, and nobody kept from theirs by another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select

from coordinator.deployments import deployments
from coordinator.foundation.errors import Conflict, NotFound, TooLarge
from coordinator.foundation.limits import MAX_EVENT
from coordinator.signals import waking
from coordinator.sources import events
from coordinator.storage.database import Database
from coordinator.storage.tables import runs as runs_table
from coordinator.storage.values import decode
from coordinator.tasks.payloads import Payloads
from coordinator.waits import event_waits
from coordinator.wire import EventRequest
from tests.conformance.store import Store, queue, task_entry

ANY = {"event": {}, "event_id": {"type": "string"}}


def entry(
    id: str = "ship", *on: dict[str, Any], properties: dict[str, Any] | None = None, **options: Any
) -> dict[str, Any]:
    """A task that listens to `on`, or to order.paid."""
    schema = {
        "type": "object",
        "properties": ANY if properties is None else properties,
        "required": [],
        "additionalProperties": False,
    }
    listened = [{"name": "order.paid", "where": None}] if not on else list(on)
    return task_entry(id, schema, on_event=listened, **options)


def on(where: dict[str, Any] | None = None, name: str = "order.paid") -> dict[str, Any]:
    return {"name": name, "where": where}


def emit(store: Store, payload: Any = None, **fields: Any) -> events.Emitted:
    body = EventRequest(name=fields.pop("name", "order.paid"), payload=payload or {}, **fields)
    return store.write(events.emit, body, store.payloads)


def tasks(emitted: events.Emitted) -> list[str]:
    return [f"{run.project}/{run.task}" for run in emitted.runs if run.run_id is not None]


def count(store: Store) -> int:
    return store.read(lambda conn, now: conn.scalar(select(func.count()).select_from(runs_table)) or 0)


def test_every_task_that_listens_has_a_run_with_what_it_declares(store: Store) -> None:
    store.deploy(
        entry("ship"),
        entry("count", properties={"event_id": {"type": "string"}}),
        entry("beep", properties={}),
        entry("other", on(name="order.created")),
        task_entry("greet"),
    )
    emitted = emit(store, {"order": "1"}, id="e1")
    assert (emitted.created, tasks(emitted)) == (True, ["orders/beep", "orders/count", "orders/ship"])
    assert emitted.topics == {waking.CLAIMS}
    payloads = [decode(store.run(run.run_id).payload) for run in emitted.runs]
    assert payloads == [{}, {"event_id": "e1"}, {"event": {"order": "1"}, "event_id": "e1"}]
    assert store.unlisted() == []
    assert len(store.claim(most=10)) == 3


def test_filters_choose_and_a_task_with_two_that_fit_has_one_run(store: Store) -> None:
    store.deploy(
        entry("large", on({"amount": {"gte": 100}})),
        entry("german", on({"country": "DE"}), on({"country": "AT"})),
        entry("both", on({"amount": {"gt": 1}}), on({"country": "DE"})),
    )
    assert tasks(emit(store, {"amount": 5, "country": "FR"})) == ["orders/both"]
    assert tasks(emit(store, {"amount": 100, "country": "AT"})) == ["orders/both", "orders/german", "orders/large"]
    assert tasks(emit(store, {"amount": 0})) == []
    assert count(store) == 4


def test_the_current_deployment_listens_and_no_other(store: Store) -> None:
    first = store.deploy(entry("ship"))
    store.deploy(entry("ship", on(name="order.sent")), project="orders")
    assert tasks(emit(store)) == []
    store.write(deployments.promote, first)
    assert tasks(emit(store)) == ["orders/ship"]


def test_an_event_concerns_every_project_unless_it_names_one(store: Store) -> None:
    store.deploy(entry("ship"), project="a")
    store.deploy(entry("ship"), project="b")
    assert tasks(emit(store)) == ["a/ship", "b/ship"]
    assert tasks(emit(store, project="b")) == ["b/ship"]
    # an id belongs to the project it was sent to
    assert emit(store, project="a", id="e").created
    assert emit(store, project="b", id="e").created
    with pytest.raises(NotFound, match="no project 'c': there are a, b"):
        emit(store, project="c")


def test_the_same_id_is_the_same_event(store: Store) -> None:
    store.deploy(entry("ship"))
    first = emit(store, {"order": "1"}, id="e1")
    store.deploy(entry("ship"), entry("late"))
    again = emit(store, {"order": "1"}, id="e1")
    assert (again.created, again.event.key, again.runs, again.topics) == (False, first.event.key, first.runs, set())
    for other in ({"payload": {"order": "2"}}, {"payload": {"order": "1"}, "name": "order.sent"}):
        with pytest.raises(Conflict, match="'e1' was used for another event") as error:
            emit(store, id="e1", **other)
        assert error.value.code == "event_conflict"
    assert count(store) == 1


def test_a_task_that_cannot_take_it_is_named_and_keeps_no_other_from_its_run(store: Store) -> None:
    refusing = queue("narrow", rate={"limit": 1, "period": 60}, rate_excess="refuse")
    typed = {"event": {"type": "object", "required": ["order"], "properties": {"order": {"type": "string"}}}}
    store.deploy(entry("a-typed", properties=typed), entry("b-narrow", queue=refusing), entry("c-plain"))
    first = emit(store, {"order": 7})
    assert tasks(first) == ["orders/b-narrow", "orders/c-plain"]
    assert [(run.task, run.problem) for run in first.runs if run.problem] == [
        ("a-typed", "the payload of 'a-typed' is wrong: event.order: 7 is not text")
    ]
    second = emit(store, {"order": "7"}, id="e2")
    assert tasks(second) == ["orders/a-typed", "orders/c-plain"]
    assert "narrow" in second.runs[1].problem
    # it is kept, and told again
    assert emit(store, {"order": "7"}, id="e2").runs == second.runs
    assert store.unlisted() == []
    assert len(store.claim(most=10)) == 4


def test_a_payload_beyond_the_limit_is_refused_with_the_limit(store: Store) -> None:
    store.deploy(entry("ship"))
    with pytest.raises(TooLarge, match=rf"payload: 10485\d+ bytes as JSON, the limit is {MAX_EVENT}"):
        emit(store, {"text": "x" * 10 * 1024 * 1024})
    assert emit(store, {"text": "x" * (MAX_EVENT - 100)}).created
    assert count(store) == 1


def test_the_same_event_sent_at_once_by_many_makes_its_runs_once(store: Store) -> None:
    store.deploy(entry("ship"), entry("count"))
    databases = [Database(store.url) for _ in range(4)]

    def send(database: Database) -> events.Emitted:
        return database.write_now(events.emit, EventRequest(name="order.paid", id="e1"), Payloads())

    try:
        with ThreadPoolExecutor(4) as pool:
            sent = list(pool.map(send, databases * 3))
    finally:
        for database in databases:
            database.close()
    assert sum(emitted.created for emitted in sent) == 1
    assert {tuple(run.run_id for run in emitted.runs) for emitted in sent} == {
        tuple(run.run_id for run in sent[0].runs)
    }
    assert count(store) == 2


def test_what_arrived_since_is_there_for_a_wait_in_its_order(store: Store) -> None:
    store.deploy(entry("ship"), project="a")
    store.deploy(entry("ship"), project="b")
    emit(store, id="early")
    store.now += 10
    since = store.now
    for number, project in enumerate((None, "a", "b")):
        emit(store, {"n": number}, project=project)
        store.now += 1
    emit(store, name="order.sent")
    found = store.read(lambda conn, now: event_waits.arrived(conn, "a", "order.paid", since))
    assert [decode(event.payload) for event in found] == [{"n": 0}, {"n": 1}]


def test_a_wait_that_begins_while_an_event_is_sent_sees_it_or_is_seen(store: Store) -> None:
    """What the lock promises: of a sender and a wait of one name, one is over before the other begins."""
    from coordinator.storage import dialect

    if "postgresql" not in store.url:
        pytest.skip("SQLite has one writer")
    order: list[str] = []
    other = Database(store.url)

    def send(conn: Any, now: float) -> None:
        dialect.lock_event(conn, "order.paid", sending=True)
        order.append("sent")

    try:
        with ThreadPoolExecutor(1) as pool:

            def wait(conn: Any, now: float) -> Any:
                dialect.lock_event(conn, "order.paid", sending=False)
                future = pool.submit(other.write_now, send)
                # another name is not held up, and neither is this transaction
                dialect.lock_event(conn, "order.sent", sending=False)
                with pytest.raises(TimeoutError):
                    future.result(0.3)
                order.append("waits")
                return future

            store.write(wait).result(10)
    finally:
        other.close()
    assert order == ["waits", "sent"]


def test_a_listing_is_newest_first_with_the_runs_of_each(store: Store) -> None:
    store.deploy(entry("ship"), project="a")
    store.deploy(entry("ship"), project="b")
    for number in range(3):
        emit(store, {"n": number}, id=f"e{number}")
    emit(store, project="b", id="mine")
    page, cursor = store.read(events.listing, None, None, None, 3)
    assert [(event.id, len(found)) for event, found in page] == [("mine", 1), ("e2", 2), ("e1", 2)]
    rest, end = store.read(events.listing, None, None, cursor, 3)
    assert ([event.id for event, _ in rest], end) == (["e0"], None)
    of_a, _ = store.read(events.listing, "a", None, None, 10)
    assert [(event.id, len(found)) for event, found in of_a] == [("e2", 1), ("e1", 1), ("e0", 1)]
    assert store.read(events.listing, None, "order.sent", None, 10) == ([], None)


def test_an_event_that_is_sent_again_makes_up_for_runs_that_never_ran(store: Store) -> None:
    strict = entry("strict", properties={"event": {"type": "string"}})
    store.deploy(entry("ship", ttl=10.0), entry("bill", ttl=10.0), strict)
    first = emit(store, {"n": 1}, id="e1")
    assert tasks(first) == ["orders/bill", "orders/ship"]
    taken = store.claim_one().run.task
    (expiring,) = {"bill", "ship"} - {taken}
    store.now += 11
    store.sweep()
    again = emit(store, {"n": 1}, id="e1")
    before, after = ({run.task: run.run_id for run in emitted.runs} for emitted in (first, again))
    assert (again.created, again.topics) == (False, {waking.CLAIMS, waking.DUE})
    # what ran is left alone, and what was refused still is
    assert (after[taken], after["strict"]) == (before[taken], None)
    assert after[expiring] not in (None, before[expiring])
    assert emit(store, {"n": 1}, id="e1").runs == again.runs
    assert count(store) == 3
    store.deploy(entry("ship"), entry("bill"), entry("strict"))
    late = {run.task: run for run in emit(store, {"n": 1}, id="e1").runs}
    assert late["strict"].run_id is not None
    assert late["strict"].problem is None


def test_an_event_that_is_sent_again_at_once_makes_up_once(store: Store) -> None:
    store.deploy(entry("ship", ttl=10.0))
    emit(store, id="e1")
    store.now += 11
    store.sweep()
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda _: emit(store, id="e1"), range(6)))
    assert len({run.run_id for emitted in found for run in emitted.runs}) == 1
    assert count(store) == 2
