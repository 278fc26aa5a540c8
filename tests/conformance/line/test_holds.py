"""What held runs in line: seen by scope, kept as spans, and split for each run afterwards."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, func, insert, select

from coordinator import why
from coordinator.line import holds, queues
from coordinator.line.holds import EVERY, LASTS, REASONS, UNSEEN, Scope
from coordinator.maintenance import holds as duty
from coordinator.maintenance import retention
from coordinator.runs import history, trace
from coordinator.settings import Settings
from coordinator.storage.blobs import Blobs
from coordinator.storage.tables import holds as table
from coordinator.wire import QueuePatch, Share, Shares
from tests.conformance.store import GIB, MIB, Store, queue, task_entry


def look(store: Store, seconds: float = 0.0, max_running: int | None = None) -> dict[str, str]:
    """Looks every EVERY seconds for so long, and once at least."""
    seen: dict[str, str] = {}
    for _ in range(max(1, round(seconds / EVERY))):
        store.now += EVERY if seconds else 0.0
        seen = store.read(duty.look, max_running)
        if seen:
            store.write(holds.record, seen)
    return seen


def queued_by(store: Store, run: str) -> dict[str, float]:
    found = store.read(lambda conn, now: trace.build(history.read(conn, now, run), now))
    ledger = found.ledger
    assert sum(part.ms for part in found.queued_by) == pytest.approx(ledger.queued_ms, abs=1)
    parts = [value for name, value in ledger.model_dump().items() if name != "total_ms"]
    assert sum(parts) == pytest.approx(ledger.total_ms, abs=1)
    return {part.reason: part.ms / 1000 for part in found.queued_by}


def pause(store: Store, name: str, paused: bool = True) -> None:
    store.write(queues.change, name, None, QueuePatch(paused=paused))


def spans(store: Store) -> list[Any]:
    return store.read(lambda conn, now: list(conn.execute(select(table).order_by(table.c.id))))


def test_each_reason_is_seen_as_why_says_it(store: Store) -> None:
    tasks = [
        task_entry("one", queue=queue("narrow", concurrency=1)),
        task_entry("keyed", queue=queue("keys", per_key=1)),
        task_entry("rated", queue=queue("rates", rate={"limit": 1, "period": 60.0})),
        task_entry("stopped", queue=queue("stopped")),
        task_entry("large", memory=64 * GIB),
        task_entry("plain"),
    ]
    store.deploy(*tasks)
    store.heartbeat(task_memory=64 * GIB)
    for task, options in (("one", {}), ("keyed", {"concurrency_key": "a"}), ("rated", {})):
        store.trigger(task, **options)
        store.start(store.claim_one())
    waiting = {
        "queue_limit": store.trigger("one").id,
        "key_limit": store.trigger("keyed", concurrency_key="a").id,
        "rate": store.trigger("rated").id,
        "memory": store.trigger("large").id,
    }
    assert store.claim() == []
    waiting |= {"turn": store.trigger("plain").id, "paused": store.trigger("stopped").id}
    pause(store, "stopped")
    for reason, run in waiting.items():
        assert store.read(why.explain, run).reason == reason
    seen = look(store)
    assert seen[Scope.queue("orders", "narrow")] == "queue_limit"
    assert seen[Scope.key("orders", "keys", "a")] == "key_limit"
    assert seen[Scope.key("orders", "rates", None)] == "rate"
    assert seen[Scope.queue("orders", "stopped")] == "paused"
    assert seen[Scope.fleet("orders", 64 * GIB)] == "memory"
    assert seen[Scope.fleet("orders", 512 * MIB)] == "turn"
    store.heartbeat()
    look(store, 10)
    for reason, run in waiting.items():
        found = queued_by(store, run)
        assert max(found, key=lambda name: found[name]) == reason, found
    everything = look(store, max_running=3)
    assert everything[Scope.everything()] == "global_limit"
    store.now += 3600
    gone = look(store)
    assert gone[Scope.fleet("orders", 512 * MIB)] == "no_runner"
    for run in waiting.values():
        store.cancel(run)
    assert store.read(duty.look) == {}, "nothing is looked at where nobody waits"


def test_a_share_and_a_missing_image_hold_runs(store: Store) -> None:
    store.deploy(project="a")
    deployment = store.deploy(project="b")
    shares = Shares(usual=Share(memory=600 * MIB, slots=1))
    store.heartbeat(shares=shares)
    store.trigger("a/greet")
    store.claim_one()
    store.trigger("a/greet")
    assert look(store)[Scope.fleet("a", 512 * MIB)] == "share"
    run = store.trigger("b/greet")
    from coordinator.deployments import rebuilds

    store.write(rebuilds.ask, deployment)
    assert look(store)[Scope.image(deployment)] == "image"
    assert store.read(why.explain, run.id).reason == "image"
    look(store, 8)
    assert queued_by(store, run.id) == {"image": pytest.approx(8, abs=0.01)}


def test_the_wait_of_each_run_is_split_by_what_held_it(store: Store) -> None:
    """Two runs of one line that came at different times, from the same few rows."""
    retry = {"max_attempts": 3, "factor": 1, "min_delay": 5, "max_delay": 5, "jitter": False, "oom_memory": GIB}
    store.deploy(task_entry("greet", queue=queue("q", concurrency=1), retry=retry))
    store.heartbeat()
    busy = store.started()
    first = store.trigger()
    look(store, 20)
    pause(store, "q")
    second = store.trigger()
    look(store, 10)
    pause(store, "q", False)
    look(store, 4)
    store.heartbeat(busy)
    store.complete(busy)
    store.now += 1
    claimed = store.claim_one()
    assert claimed.run.id == first.id
    assert queued_by(store, first.id) == {
        "queue_limit": pytest.approx(25, abs=2.1),
        "paused": pytest.approx(10, abs=2.1),
    }
    store.start(claimed)
    look(store, 6)
    found = queued_by(store, second.id)
    assert found["paused"] == pytest.approx(10, abs=2.1)
    assert found["queue_limit"] == pytest.approx(11, abs=2.1)
    assert set(found) == {"paused", "queue_limit"}
    assert len(spans(store)) <= 6, "however long it is, and however many wait"
    # it is tried again, in another line for its memory, and what held it there is of this run as well
    assert store.fail(claimed, reason="out_of_memory").status == "delayed"
    store.now += 5
    store.sweep()
    pause(store, "q")
    look(store, 8)
    assert queued_by(store, first.id)["paused"] == pytest.approx(18, abs=4.2)
    store.cancel(first.id)
    store.now += 1000
    assert queued_by(store, first.id)["paused"] == pytest.approx(18, abs=4.2), "and when it is over"


def test_a_wait_of_a_moment_is_not_asked_about(store: Store) -> None:
    store.deploy()
    store.trigger()
    store.now += 0.2
    claimed = store.claim_one()
    assert queued_by(store, claimed.run.id) == {UNSEEN: pytest.approx(0.2)}


def test_a_turn_between_two_claims_begins_no_span(store: Store) -> None:
    scope = Scope.queue("p", "q")

    def see(reason: str) -> None:
        store.now += EVERY
        store.write(holds.record, {scope: reason})

    for reason in ("memory", "memory", "turn", "memory", "memory"):
        see(reason)
    assert [span.reason for span in spans(store)] == ["memory"]
    see("turn")
    see("turn")
    assert [span.reason for span in spans(store)] == ["memory", "turn"]
    assert spans(store)[1].began_at == spans(store)[0].until
    store.now += 10 * LASTS
    see("turn")
    assert len(spans(store)) == 3, "nobody has looked meanwhile: it is another"


def test_what_held_runs_is_removed_with_time_and_beyond_a_number(
    store: Store, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kind,) = (kind for kind in retention.KINDS if kind.name == "what held runs")

    def fill(conn: Connection, now: float) -> None:
        rows = [{"scope": "s", "reason": "turn", "began_at": now - n, "until": now - n} for n in range(400)]
        conn.execute(insert(table), rows)

    def remove() -> int:
        blobs = Blobs(tmp_path / "blobs")
        store.write(retention.run_once, kind, Settings(data=tmp_path, admin_key="x" * 20), blobs)
        return int(store.read(lambda conn, now: conn.scalar(select(func.count()).select_from(table))) or 0)

    store.write(fill)
    assert remove() == 400
    monkeypatch.setattr(retention, "_HOLDS", 100)
    assert remove() == 100
    store.now += 91 * 86400
    assert remove() == 0


Times = st.integers(0, 60).map(lambda n: n / 2)


@given(
    st.lists(st.tuples(Times, Times, st.sampled_from(REASONS)), max_size=12),
    st.lists(st.tuples(Times, Times), max_size=4),
)
def test_the_parts_are_the_whole_whatever_the_spans_are(
    given_spans: list[tuple[float, float, str]], times: list[tuple[float, float]]
) -> None:
    listed = [SimpleNamespace(began_at=min(a, b), until=max(a, b), reason=r) for a, b, r in given_spans]
    waited = [(min(a, b) + 100 * n, max(a, b) + 100 * n) for n, (a, b) in enumerate(times)]
    parts = holds.split(waited, listed)
    assert sum(part.seconds for part in parts) == pytest.approx(sum(end - begin for begin, end in waited))
    assert {part.reason for part in parts} <= {*REASONS, UNSEEN}
    assert all(part.seconds > 0 for part in parts)
