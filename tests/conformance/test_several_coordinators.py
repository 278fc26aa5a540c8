"""Several coordinators on one PostgreSQL: what one changes wakes the others, and each duty has one holder."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from coordinator.access import callers
from coordinator.api import polling
from coordinator.context import Coordinator
from coordinator.foundation.errors import Unauthenticated
from coordinator.maintenance.duties import DUTIES
from coordinator.signals import channel, seats
from coordinator.signals.seats import Seats
from coordinator.storage import dialect
from tests.conformance.databases import fresh_database
from tests.unit.coordinator.conftest import Api, ok, serving
from tests.waiting import eventually


@pytest.fixture
def url(postgres: str) -> Iterator[str]:
    with fresh_database(postgres) as url:
        yield url


@pytest.fixture
def pair(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Api, Coordinator]]]:
    """Two coordinators that hear of each other by nothing but the database, and never look by themselves."""
    monkeypatch.setattr(polling, "_HEARD", 1000.0)
    monkeypatch.setattr(polling, "_UNHEARD", 1000.0)
    with ExitStack() as stack:
        # one data directory, as with one volume: the secret that signs attempts is in it
        found = [stack.enter_context(serving(tmp_path / "data", url)) for _ in range(2)]
        eventually(lambda: all(core.waking.hears_others for _, core in found), "both to listen")
        yield found


@contextmanager
def database(url: str) -> Iterator[psycopg.Connection[Any]]:
    connect = dialect.session(url)
    assert connect is not None
    with psycopg.connect(**connect, autocommit=True) as conn:
        yield conn


def test_a_trigger_at_one_wakes_a_claim_and_a_wait_at_the_other(pair: list[tuple[Api, Coordinator]]) -> None:
    (one, _), (other, _) = pair
    one.deploy()
    with ThreadPoolExecutor(2) as pool:
        held = pool.submit(other.claim, timeout=50)
        run = one.trigger()
        (assignment,) = held.result(20)["assignments"]
        waiting = pool.submit(lambda: ok(one.admin.get(f"/api/v1/runs/{run['id']}/wait", params={"timeout": 50})))
        ok(other.attempt(assignment, "start", start="cold"))
        ok(other.attempt(assignment, "finish", outcome="completed", result=1))
        assert waiting.result(20)["status"] == "completed"


def test_who_loses_its_connection_listens_again_and_has_missed_nothing(
    pair: list[tuple[Api, Coordinator]], url: str
) -> None:
    (one, _), (other, core) = pair
    one.deploy()
    with ThreadPoolExecutor(1) as pool, database(url) as admin:
        held = pool.submit(other.claim, timeout=50)

        def cut() -> int:
            query = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE %s"
            row = admin.execute(query, ["LISTEN%"]).fetchone()
            assert row is not None
            return int(row[0])

        assert cut() == 2
        run = one.trigger()["id"]
        assert held.result(20)["assignments"][0]["run"] == run
        eventually(lambda: core.waking.hears_others, "it to listen again")
        held = pool.submit(other.claim, timeout=50)
        assert one.trigger()["id"] == held.result(20)["assignments"][0]["run"]


def test_a_key_that_one_revokes_is_refused_by_the_other(
    pair: list[tuple[Api, Coordinator]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "_REMEMBERED", 1000.0)
    (one, _), (other, _) = pair
    key = ok(one.admin.post("/api/v1/keys", json={"name": "frontend", "role": "read"}))["key"]

    def status() -> int:
        return other.admin.get("/api/v1/runs", headers={"Authorization": f"Bearer {key}"}).status_code

    assert status() == 200
    ok(one.admin.delete("/api/v1/keys/frontend"))
    eventually(lambda: status() == 401, "the other to refuse the key")


def test_a_key_that_is_revoked_while_it_is_looked_up_is_not_remembered(pair: list[tuple[Api, Coordinator]]) -> None:
    (one, core), _ = pair
    key = ok(one.admin.post("/api/v1/keys", json={"name": "frontend", "role": "read"}))["key"]

    class Slow:
        async def read(self, function: Any, *arguments: Any) -> Any:
            found = await core.database.read(function, *arguments)
            known.forget()  # as `revoke` does, between the answer of the database and its arrival here
            return found

    known = callers.Callers(Slow())  # type: ignore[arg-type]
    assert asyncio.run(known.find(key)).role == "read"
    ok(one.admin.delete("/api/v1/keys/frontend"))
    with pytest.raises(Unauthenticated):
        asyncio.run(known.find(key))


def test_each_duty_has_one_holder_and_goes_over_when_that_one_ends(url: str, tmp_path: Path) -> None:
    names = sorted(duty.name for duty in DUTIES)
    with ExitStack() as stays, ExitStack() as goes:
        first, _ = goes.enter_context(serving(tmp_path / "data", url))
        eventually(lambda: ok(first.admin.get("/readyz"))["duties"] == names, "the first to hold all duties")
        second, _ = stays.enter_context(serving(tmp_path / "data", url))
        assert ok(second.admin.get("/readyz"))["duties"] == []
        second.deploy()
        run = second.trigger(delay="2s")["id"]  # kept by the first, which hears of it
        assert second.claim(timeout=30)["assignments"][0]["run"] == run
        goes.close()
        eventually(lambda: ok(second.admin.get("/readyz"))["duties"] == names, "the second to hold all duties")


def test_a_holder_that_hangs_loses_its_duties(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seats, "IDLE", 1)
    monkeypatch.setattr(seats, "_PAUSE", 0.1)
    hanging, waiting = (Seats(dialect.session(url), ["sweep"]) for _ in range(2))
    with in_a_loop(hanging) as loop, in_a_loop(waiting) as other:
        eventually(lambda: hanging.held or waiting.held, "one to hold the duty")
        if waiting.held:
            hanging, waiting, loop = waiting, hanging, other
        release = threading.Event()
        loop.call_soon_threadsafe(release.wait)  # a loop that is stuck in one call
        try:
            eventually(lambda: waiting.held == ["sweep"], "the other to take the duty")
        finally:
            release.set()
        eventually(lambda: hanging.held == [], "the first to notice that it lost the duty")
        assert waiting.held == ["sweep"]


@contextmanager
def in_a_loop(seats: Seats) -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    task = loop.create_task(seats.run())
    task.add_done_callback(lambda _: loop.stop())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(30)
        loop.close()


def test_many_topics_are_told_in_payloads_that_postgresql_takes() -> None:
    topics = {f"run:run_{n:030d}" for n in range(1000)} | {"commands:" + "ü" * 3000}
    told = list(channel.messages("me", topics))
    assert all(len(message.encode()) < 8000 for message in told)
    found = {topic for message in told for topic in json.loads(message)["topics"]}
    # a topic that fits into no payload wakes everyone
    assert found == {t for t in topics if t.startswith("run:")} | {"*"}
    assert len(told) < 10
