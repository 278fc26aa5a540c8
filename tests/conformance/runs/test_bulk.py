"""Many runs at once, after a grace: taken back, carried out once whoever is killed, bounded, in a key's name."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection, func, select, update

from coordinator.access.keys import Caller
from coordinator.api.bulk import filter_of
from coordinator.foundation.errors import Conflict, Invalid, NotFound
from coordinator.maintenance import bulk as duty
from coordinator.maintenance import retention
from coordinator.maintenance.duty import Round
from coordinator.runs import bulk, triggers
from coordinator.runs import runs as looked_up
from coordinator.settings import Settings
from coordinator.storage.blobs import Blobs
from coordinator.storage.tables import audit, bulk_outcomes, bulks, keys, runs
from coordinator.wire import BulkCreate, RunFilter
from tests.conformance.store import Store, task_entry

KEY = Caller("admin", None, "key_1", "ops")


@pytest.fixture
def core(store: Store) -> Any:
    """What the duty needs of a coordinator."""

    def insert(conn: Connection, now: float) -> None:
        conn.execute(keys.insert().values(id=KEY.id, name=KEY.name, role=KEY.role, hash="0" * 64, created_at=now))

    store.write(insert)
    heard: set[str] = set()
    waking = SimpleNamespace(notify=lambda *topics: heard.update(topics))
    return SimpleNamespace(database=store.database, payloads=store.payloads, waking=waking, heard=heard)


def ask(store: Store, act: str, caller: Caller = KEY, grace: float = 10.0, **wanted: Any) -> str:
    body = BulkCreate(act=act, filter=RunFilter(**wanted), grace=grace)
    wanted = filter_of(body.filter)
    expected = store.read(looked_up.count, wanted, 10_000)
    return str(store.write(bulk.create, body, wanted, expected, caller).id)


def go(core: Any) -> Round:
    return asyncio.run(duty.run_round(core, 0.0))


def carry_out(core: Any) -> int:
    """Until nothing is due; how many rounds."""
    rounds = 0
    while go(core).next_due == 0.0:
        rounds += 1
    return rounds


def shown(store: Store, one: str) -> Any:
    return bulk.shown(store.read(bulk.get, one))


def statuses(store: Store) -> list[str]:
    return store.read(lambda conn, now: list(conn.scalars(select(runs.c.status).order_by(runs.c.id))))


def test_nothing_is_done_within_the_grace_and_what_was_taken_back_is_not_done(store: Store, core: Any) -> None:
    store.deploy()
    for _ in range(3):
        store.trigger()
    one = ask(store, "cancel", status=["queued"])
    assert (shown(store, one).status, shown(store, one).expected) == ("waiting", 3)
    store.now += 9
    assert go(core).next_due == pytest.approx(1.0)
    assert statuses(store) == ["queued"] * 3
    assert store.write(bulk.take_back, one).status == "taken_back"
    assert store.write(bulk.take_back, one).status == "taken_back", "said twice"
    store.now += 100
    assert go(core).next_due is None
    assert statuses(store) == ["queued"] * 3
    with pytest.raises(NotFound):
        store.write(bulk.take_back, "blk_none")


def test_all_that_fitted_when_it_was_asked_for_is_done_in_batches(store: Store, core: Any) -> None:
    store.deploy(task_entry("greet"), task_entry("other"))
    count = 2 * duty.BATCH + 3
    for _ in range(count):
        store.trigger()
    store.trigger("other")
    one = ask(store, "cancel", task="greet")
    late = store.trigger()
    store.now += 10
    assert go(core).next_due == 0.0
    assert (shown(store, one).status, shown(store, one).done) == ("running", duty.BATCH)
    assert carry_out(core) == 2
    found = shown(store, one)
    assert (found.status, found.done, found.problems, found.expected) == ("done", count, 0, count)
    assert statuses(store) == ["canceled"] * count + ["queued"] * 2
    assert store.run(late.id).status == "queued", "made afterwards"
    assert f"run:{late.id}" not in core.heard
    assert sum(topic.startswith("run:") for topic in core.heard) == count, "who waits for one of them hears of it"
    with pytest.raises(Conflict):
        store.write(bulk.take_back, one)
    noted = store.read(lambda conn, now: conn.execute(select(audit).where(audit.c.action == "run.cancel")).all())
    assert len(noted) == count
    assert {(row.key_name, row.project, row.detail) for row in noted} == {
        ("ops", "orders", f'{{"bulk": "{one}", "task": "greet"}}')
    }


def test_what_could_not_be_done_is_named_by_run_and_keeps_no_other_from_it(store: Store, core: Any) -> None:
    store.deploy()
    ended = [store.trigger() for _ in range(3)]
    for run in ended:
        store.cancel(run.id)
    waiting = store.trigger()
    one = ask(store, "replay", task="greet", grace=0)
    carry_out(core)
    found = shown(store, one)
    assert (found.status, found.done, found.problems) == ("done", 3, 1)
    (problem,), _ = store.read(bulk.outcomes, one, True, None, 10)
    assert (problem.run_id, problem.problem) == (
        waiting.id,
        "it is queued: only a run that has ended is replayed with others",
    )
    replays, following = store.read(bulk.outcomes, one, False, None, 2)
    assert [row.run_id for row in replays] == [ended[2].id, ended[1].id]
    (last,), _ = store.read(bulk.outcomes, one, False, following, 2)
    assert store.run(last.replay).origin_id == ended[0].id == last.run_id


def test_a_run_is_replayed_once_whoever_is_killed_at_it(
    store: Store, core: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder dies before and after each of its commits, and another one goes on."""
    store.deploy()
    for _ in range(4):
        store.cancel(store.trigger().id)
    one = ask(store, "replay", status=["canceled"], grace=0)
    write = store.database.write

    class Killed(BaseException):
        pass

    for number in range(40):
        left = number

        async def dying(function: Any, *given: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            result = await write(function, *given)
            left -= 1
            if left == 0:
                raise Killed
            return result

        monkeypatch.setattr(store.database, "write", dying)
        try:
            go(core)
        except Killed:
            continue
        if shown(store, one).status == "done":
            break
    monkeypatch.undo()
    assert shown(store, one).done == 4
    replays = select(runs.c.origin_id).where(runs.c.origin == "replay")
    made = store.read(lambda conn, now: list(conn.scalars(replays)))
    assert len(made) == len(set(made)) == 4


def test_two_holders_do_it_once(store: Store, core: Any) -> None:
    store.deploy()
    runs_of = [store.trigger() for _ in range(2)]
    one = ask(store, "dismiss", task="greet", grace=0)
    row = store.write(bulk.begin, one)
    assert row is not None
    newest = runs_of[1].id
    store.write(bulk.see_to, one, row.cursor, newest, "dismiss")
    with pytest.raises(bulk.Superseded):
        store.write(bulk.see_to, one, row.cursor, newest, "dismiss")
    with pytest.raises(bulk.Superseded):
        store.write(bulk.give_up, one, row.cursor, newest, "no")
    assert shown(store, one).done == 1
    store.write(bulk.take_back, one)
    assert shown(store, one).status == "stopped"
    with pytest.raises(bulk.Superseded):
        store.write(bulk.see_to, one, newest, runs_of[0].id, "dismiss")
    assert store.write(bulk.begin, one) is None


def test_one_run_that_breaks_the_coordinator_stops_no_other(
    store: Store, core: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.deploy()
    bad = store.trigger()
    good = store.trigger()
    for run in (bad, good):
        store.cancel(run.id)
    create = triggers.create

    def broken(conn: Connection, now: float, plan: Any, *given: Any) -> Any:
        if plan.origin.id == bad.id:
            raise ZeroDivisionError
        return create(conn, now, plan, *given)

    monkeypatch.setattr(bulk.triggers, "create", broken)
    one = ask(store, "replay", task="greet", grace=0)
    carry_out(core)
    (problem,), _ = store.read(bulk.outcomes, one, True, None, 10)
    assert (problem.run_id, problem.problem) == (bad.id, "the coordinator failed; its log says why")
    assert (shown(store, one).done, shown(store, one).status) == (1, "done")


def test_a_key_that_is_revoked_meanwhile_does_nothing_more(store: Store, core: Any) -> None:
    store.deploy()
    run = store.trigger()
    one = ask(store, "cancel", task="greet")
    store.write(lambda conn, now: conn.execute(update(keys).values(revoked_at=now)))
    store.now += 10
    carry_out(core)
    found = shown(store, one)
    assert (found.status, found.problem) == ("stopped", "the key 'ops', which has asked for it, was revoked")
    assert store.run(run.id).status == "queued"


def test_those_of_several_take_turns_and_their_number_is_bounded(store: Store, core: Any) -> None:
    store.deploy()
    for _ in range(duty.BATCH + 5):
        store.trigger()
    first, second = ask(store, "dismiss", task="greet", grace=0), ask(store, "dismiss", task="greet", grace=0)
    for _ in range(2):
        store.now += 1
        go(core)
    assert [shown(store, one).done for one in (first, second)] == [duty.BATCH] * 2
    for _ in range(18):
        ask(store, "cancel", task="greet")
    with pytest.raises(Conflict) as refused:
        ask(store, "cancel", task="greet")
    assert refused.value.code == "too_many"
    ask(store, "cancel", Caller("admin", None, "key_2", "other"), task="greet")
    with pytest.raises(Invalid):
        ask(store, "cancel")


def test_a_time_ago_is_fixed_when_it_is_asked_for_and_a_project_sees_its_own(store: Store) -> None:
    store.deploy()
    of = Caller("admin", "orders", "key_2", "mine")
    mine = ask(store, "cancel", of, since="2h", project="orders")
    ask(store, "cancel", task="greet")
    assert shown(store, mine).filter.since.endswith("Z")
    rows, _ = store.read(bulk.listing, "orders", None, 10)
    assert [row.id for row in rows] == [mine]
    assert len(store.read(bulk.listing, None, None, 10)[0]) == 2


def test_what_is_kept_of_them_is_bounded(
    store: Store, core: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MOST_PROBLEMS", 2)
    store.deploy()
    for _ in range(4):
        store.trigger()
    one = ask(store, "replay", task="greet", grace=0)
    carry_out(core)
    assert shown(store, one).problems == 4
    assert len(store.read(bulk.outcomes, one, None, None, 10)[0]) == 2
    (kind,) = (kind for kind in retention.KINDS if kind.name == "bulks")
    settings = Settings(data=tmp_path, admin_key="x" * 20)
    for age, left in ((0, 1), (91 * 86400, 0)):
        store.now += age
        store.write(retention.run_once, kind, settings, Blobs(tmp_path / "blobs"))
        for table in (bulks, bulk_outcomes):
            count = store.read(lambda conn, now, table=table: conn.scalar(select(func.count()).select_from(table)))
            assert (count or 0) >= left if left else count == 0


def test_all_that_fit_a_filter_without_an_index_are_found_however_far_back(
    store: Store, core: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looked_up, "_LOOK", 2)
    store.deploy()
    wanted = [store.trigger(idempotency_key=f"wanted {n}").id for n in range(2)]
    for _ in range(7):
        store.trigger()
    one = ask(store, "cancel", text="WANTED", grace=0.0)
    assert shown(store, one).expected == 2
    carry_out(core)
    assert (shown(store, one).status, shown(store, one).done) == ("done", 2)
    assert [store.run(run).status for run in wanted] == ["canceled", "canceled"]
    assert statuses(store).count("queued") == 7


def test_a_list_of_what_a_run_has_triggered_means_no_other(store: Store, core: Any) -> None:
    store.deploy()
    for _ in range(3):
        store.trigger()
    one = ask(store, "cancel", parent="run_of_nobody", status=["queued"], grace=0.0)
    assert (shown(store, one).expected, shown(store, one).filter.parent) == (0, "run_of_nobody")
    carry_out(core)
    assert statuses(store) == ["queued"] * 3


@pytest.mark.parametrize("wanted", [{"longer": "0s"}, {"task": ""}, {"task": "", "status": ["queued", "failed"]}])
def test_a_condition_that_looks_like_none_is_one(store: Store, core: Any, wanted: dict[str, Any]) -> None:
    store.deploy()
    for _ in range(3):
        store.trigger()
    one = ask(store, "cancel", grace=0.0, **wanted)
    assert shown(store, one).expected == 0
    carry_out(core)
    assert statuses(store) == ["queued"] * 3
