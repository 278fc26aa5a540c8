"""Live pages: one look for all who look on, all looks in their share, and nobody kept from the end of a session."""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from coordinator.dashboard.looks import _COSTLIEST, AT_ONCE, SHARE, Budget, Looks
from coordinator.signals.waking import Waking
from tests.unit.coordinator.api.test_stream import line
from tests.unit.coordinator.conftest import Api, ok, serving
from tests.unit.coordinator.dashboard.test_site import asked_for_data, browser, counted
from tests.waiting import eventually, eventually_async


def test_many_who_look_at_one_page_have_it_made_once(tmp_path: Path, migrated: Path) -> None:
    (tmp_path / "data").mkdir()
    shutil.copyfile(migrated, tmp_path / "data" / "coordinator.db")
    with serving(tmp_path / "data") as (api, core), browser(api) as client:
        api.deploy()
        run = api.trigger()["id"]
        streams = [client.stream("GET", "/live", params={"of": f"/runs/{run}"}) for _ in range(20)]
        opened = [stream.__enter__() for stream in streams]
        try:
            readers = [one.iter_lines() for one in opened]
            for lines in readers:
                next(line for line in lines if "live_more" in line)
            with counted(core) as sent:
                api.admin.post(f"/api/v1/runs/{run}/cancel")
                for lines in readers:
                    next(line for line in lines if "canceled" in line)
            reads = sum("FROM waits" in one or "FROM checkpoints" in one for one in asked_for_data(sent))
            assert reads <= 40, f"{reads} reads for {len(readers)} viewers"
        finally:
            for stream in streams:
                stream.__exit__(None, None, None)
        eventually(lambda: not core.waking._listeners.get(f"run:{run}"), "nobody to listen any more")


def test_many_who_follow_one_log_have_its_lines_read_once(tmp_path: Path, migrated: Path) -> None:
    (tmp_path / "data").mkdir()
    shutil.copyfile(migrated, tmp_path / "data" / "coordinator.db")
    with serving(tmp_path / "data") as (api, core), browser(api) as client, ExitStack() as stack:
        api.deploy()
        run = api.trigger()["id"]
        assignment = api.claim_one()
        ok(api.attempt(assignment, "start", start="cold"))
        ok(api.attempt(assignment, "logs", lines=[line(0, "line 0 stands")]))
        path = f"/runs/{run}/logs/live"
        readers = [stack.enter_context(client.stream("GET", path)).iter_lines() for _ in range(20)]
        for lines in readers:
            next(text for text in lines if "line 0 stands" in text)
        with counted(core) as sent:
            for number in (1, 2, 3):
                ok(api.attempt(assignment, "logs", lines=[line(number, f"line {number} stands")]))
                for lines in readers:
                    next(text for text in lines if f"line {number} stands" in text)
        reads = sum("FROM log_lines" in one for one in asked_for_data(sent))
        assert 3 <= reads <= 30, f"{reads} reads of three lines for {len(readers)} followers"
        ok(api.attempt(assignment, "finish", outcome="completed", result=None))
        for lines in readers:
            assert "event: over" in list(lines), "each hears of the end"


class Made:
    """What counts how often it was made."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self) -> int:
        self.count += 1
        return self.count


def in_line(budget: Budget, waking: Waking | None = None) -> Looks[int]:
    return Looks(lambda: budget.turn(waking or Waking()))


def test_a_look_of_before_a_change_serves_nobody_who_has_heard_of_it() -> None:
    """Nor who has begun to listen after it: what changed in between is said to nobody again."""

    async def ask() -> None:
        looks, made, began = Looks[int](), Made(), time.monotonic()
        first = looks.look("page", made, began)
        assert [await looks.look("page", made, began).made for _ in range(3)] == [1, 1, 1]
        second = looks.look("page", made, time.monotonic())
        assert (await first.made, await second.made) == (1, 2)
        assert looks.look("page", made, began) is second, "a newer one serves who asks for an older one"
        assert looks.look("another", made, began) is not second

    asyncio.run(ask())


def test_a_look_in_line_serves_all_who_hear_of_changes_until_it_begins() -> None:
    async def ask() -> None:
        budget, made = Budget(), Made()
        looks = in_line(budget)
        budget._left = -0.005 * SHARE  # five milliseconds
        first = looks.look("page", made, time.monotonic())
        assert all(looks.look("page", made, time.monotonic()) is first for _ in range(100))
        await first.made
        assert made.count == 1

    asyncio.run(ask())


def test_what_nobody_looks_at_is_not_kept() -> None:
    async def ask() -> None:
        looks = Looks[int]()
        for number in range(1000):
            await looks.look(number, Made(), time.monotonic()).made
        await eventually_async(lambda: len(looks._last) == 0, "nothing to be kept")

    asyncio.run(ask())


def test_a_look_that_fails_is_told_to_all_who_wait_for_it_and_to_nobody_after() -> None:
    async def fails() -> int:
        raise ValueError("no page")

    async def ask() -> None:
        looks, made = Looks[int](), Made()
        since = time.monotonic()
        first = looks.look("page", fails, since)
        second = looks.look("page", fails, since)
        for one in (first, second):
            with pytest.raises(ValueError, match="no page"):
                await one.made
        assert await looks.look("page", made, time.monotonic()).made == 1

    asyncio.run(ask())


@pytest.mark.parametrize("cost", [0.001, 0.01, 0.1])
def test_looks_take_no_more_than_their_share_however_many_are_asked_for(cost: float) -> None:
    now = [0.0]
    waking = Waking()

    async def ask() -> float:
        budget, spent = Budget(lambda: now[0], lambda: now[0]), 0.0
        while now[0] < 600:
            now[0] += budget.wait() + 1e-6  # else what is rounded off is waited for, on a clock that stands
            async with budget.turn(waking):
                now[0] += cost
                spent += cost
        return spent

    spent = asyncio.run(ask())
    assert 0.9 * SHARE * 600 <= spent <= SHARE * now[0] + AT_ONCE + 2 * cost


def test_a_look_that_takes_minutes_keeps_the_others_back_for_seconds() -> None:
    now = [0.0]

    async def ask() -> float:
        budget = Budget(lambda: now[0], lambda: now[0])
        async with budget.turn(Waking()):
            now[0] += 300.0
        return budget.wait()

    assert asyncio.run(ask()) <= _COSTLIEST / SHARE


def test_the_server_stops_at_once_though_looks_stand_in_line() -> None:
    async def ask() -> None:
        waking = Waking()
        budget, made = Budget(), Made()
        looks = in_line(budget, waking)
        budget._left = -SHARE * 3600
        waiting = [looks.look(number, made, time.monotonic()) for number in range(20)]
        await asyncio.sleep(0)
        waking.close()
        await asyncio.wait_for(asyncio.gather(*(one.made for one in waiting)), 10)

    asyncio.run(ask())


def test_who_stands_in_line_hears_of_the_end_of_the_session(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ok(api.admin.post("/api/v1/keys", json={"name": "viewer", "role": "read"}))
    api.deploy()
    with browser(api, made["key"]) as client, client.stream("GET", "/live", params={"of": "/runs"}) as answer:
        lines = answer.iter_lines()
        assert next(line for line in lines if line) == "event: part"
        monkeypatch.setattr(Budget, "wait", lambda budget: 3600.0)
        api.trigger()  # which the page would show, had it a turn
        ok(api.admin.delete("/api/v1/keys/viewer"))
        assert "event: over" in list(lines)
