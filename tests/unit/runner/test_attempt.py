"""One attempt on its host, where the disk, the engine or the timing fails it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from coordinator.wire import ClaimRequest, ClaimResponse, Lost, SidecarEvent
from runner.agent import Agent
from runner.attempt import Attempt, Host
from runner.container import Container, Died, EndAsked
from runner.coordinator_client import CoordinatorClient
from runner.errors import EngineError
from runner.policy import Policy
from runner.reconcile import register_again
from runner.records import Record, Records
from tests.fakes import FakeEngine
from tests.unit.runner.test_pool import MIB, World, run
from tests.waiting import eventually_async


class Told(CoordinatorClient):
    """Keeps what the runner says of attempts, instead of sending it."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9", "k", "r")
        self.lost_ones: list[Lost] = []

    async def lost(self, attempt: str, body: Lost) -> bool:
        self.lost_ones.append(body)
        return True


class FullDisk(Records):
    def save(self, container: str, record: Record) -> None:
        raise OSError(28, "No space left on device")


class ForgetfulEngine(FakeEngine):
    """Cannot say what became of a container, as an engine that is starting again."""

    away = False

    def inspect(self, name: str) -> Any:
        if self.away:
            raise EngineError("the Docker Engine does not answer")
        return super().inspect(name)


def with_host(
    engine: FakeEngine,
    test: Callable[[World, Host, Told], Coroutine[Any, Any, None]],
    state: Path,
    records: type[Records] = Records,
    policy: Policy | None = None,
) -> None:
    async def main(w: World) -> None:
        told = Told()
        pool: Any = w.pool
        host = Host(pool._settings, policy or Policy(), engine, pool._sidecar, told, pool, records(state))
        await test(w, host, told)

    run(engine, main)


async def container_of(w: World, attempt: str) -> Container:
    """The container that has `attempt`, its modules imported."""

    def there() -> Container | None:
        return next(
            (c for c in w.pool if c.assignment and c.assignment.attempt == attempt and c.begun.is_set()), None
        )

    container = await eventually_async(there, f"a container for {attempt}")
    assert container is not None
    return container


def event(container: Container, kind: Any, attempt: str | None = None, **fields: Any) -> SidecarEvent:
    return SidecarEvent(seq=1, container=container.name, kind=kind, attempt=attempt, **fields)


def test_a_full_disk_costs_the_attempt_and_leaves_no_container(tmp_path: Path) -> None:
    async def test(w: World, host: Host, told: Told) -> None:
        await asyncio.wait_for(Attempt(host, w.assignment()).run(), 30)
        (lost,) = told.lost_ones
        assert (lost.reason, "No space left" in lost.message) == ("lost", True)
        await eventually_async(lambda: w.pool.used == 0, "the container to be removed")

    with_host(FakeEngine(), test, tmp_path, FullDisk)


def test_an_adopted_attempt_is_accounted_for_while_the_engine_is_away(tmp_path: Path) -> None:
    engine = ForgetfulEngine()

    async def test(w: World, host: Host, told: Told) -> None:
        assignment = w.assignment()
        made = await w.acquire()
        container = w.pool.adopt(made.name, made.key, assignment)
        engine.away = True
        container.tell(Died())
        record = Record(assignment.attempt, time.time() + 60)
        attempt = Attempt(host, assignment)
        await asyncio.wait_for(attempt.run_adopted(container, record), 30)
        assert not attempt.hurries
        assert [lost.reason for lost in told.lost_ones] == ["lost"]
        engine.away = False
        await eventually_async(lambda: w.pool.used == 0, "the container to be removed")

    with_host(engine, test, tmp_path)


def test_the_end_asked_of_one_attempt_is_not_carried_out_on_the_next(tmp_path: Path) -> None:
    engine = FakeEngine()

    async def life(w: World, host: Host, stray: str | None) -> Container:
        attempt = Attempt(host, w.assignment())
        running = asyncio.create_task(attempt.run())
        container = await container_of(w, attempt.id)
        if container.start == "cold":
            container.tell(event(container, "ready", memory=20 * MIB))
        container.tell(event(container, "started", attempt.id))
        end = event(container, "finished", attempt.id, outcome="completed", clean=True, memory=20 * MIB)
        container.tell(end)
        if stray:
            container.tell(EndAsked(attempt.id))
        await asyncio.wait_for(running, 30)
        return container

    async def test(w: World, host: Host, told: Told) -> None:
        first = await life(w, host, stray="an end asked for too late")
        assert first.state == "idle"
        second = await life(w, host, stray=None)
        assert (second.name, second.start, second.state) == (first.name, "warm", "idle")
        assert told.lost_ones == []

    with_host(engine, test, tmp_path)


@pytest.mark.parametrize(("longest", "granted"), [(100.0, 100.0), (None, 60.0 + 20 * 30.0)])
def test_more_time_ends_at_the_policys_longest(longest: float | None, granted: float, tmp_path: Path) -> None:
    policy = Policy.model_validate({"limits": {"timeout": longest} if longest else {}})

    async def test(w: World, host: Host, told: Told) -> None:
        attempt = Attempt(host, w.assignment())
        running = asyncio.create_task(attempt.run())
        container = await container_of(w, attempt.id)
        began = time.time()
        container.tell(event(container, "started", attempt.id))
        for number in range(1, 21):
            for _ in range(2):  # a sidecar that was killed may say it again
                container.tell(event(container, "extended", attempt.id, seconds=number * 30.0))
        await eventually_async(container.inbox.empty, "the events to be taken in")
        record = host.records.load(container.name)
        assert record is not None
        assert record.deadline is not None
        assert began + granted - 1 < record.deadline < time.time() + granted + 1
        container.tell(event(container, "finished", attempt.id, outcome="completed"))
        await asyncio.wait_for(running, 30)

    with_host(FakeEngine(), test, tmp_path, policy=policy)


def test_a_missing_image_is_told_apart_and_is_nobodys_fault(tmp_path: Path) -> None:
    engine = FakeEngine()

    async def test(w: World, host: Host, told: Told) -> None:
        assignment = w.assignment()
        engine.images.clear()
        await asyncio.wait_for(Attempt(host, assignment).run(), 30)
        (lost,) = told.lost_ones
        assert (lost.reason, lost.missing_image) == ("lost", assignment.image)
        assert f"the image {assignment.image} is not on this host" in lost.message
        await eventually_async(lambda: w.pool.used == 0, "nothing to be held")

    with_host(engine, test, tmp_path)


async def held(w: World, host: Host) -> tuple[Attempt, Container, asyncio.Task[None]]:
    """An attempt that has ended well in a container which is still to be cleaned up."""
    attempt = Attempt(host, w.assignment())
    running = asyncio.create_task(attempt.run())
    container = await container_of(w, attempt.id)
    container.tell(event(container, "ready", memory=20 * MIB))
    container.tell(event(container, "started", attempt.id))
    container.tell(event(container, "finished", attempt.id, outcome="completed", held=True))
    return attempt, container, running


def test_a_held_container_comes_back_when_it_says_so_and_its_run_is_over_before(tmp_path: Path) -> None:
    async def test(w: World, host: Host, told: Told) -> None:
        attempt = Attempt(host, w.assignment())
        running = asyncio.create_task(attempt.run())
        container = await container_of(w, attempt.id)
        container.tell(event(container, "ready", memory=20 * MIB))
        container.tell(event(container, "started", attempt.id))
        container.tell(event(container, "ending", attempt.id, clean=True))
        container.tell(event(container, "finished", attempt.id, outcome="completed", held=True))
        await asyncio.wait_for(running, 30)
        assert (container.state, container.assignment, told.lost_ones) == ("busy", None, [])
        assert w.pool.used == container.key.memory
        # triggered on the news of the end: it finds the container, not a start
        second = asyncio.create_task(w.pool.acquire(w.assignment(), container.key))
        container.tell(event(container, "released", "another", clean=True, memory=20 * MIB))
        container.tell(event(container, "released", attempt.id, clean=True, memory=20 * MIB))
        assert ((await second).name, (await second).start) == (container.name, "waited")

    with_host(FakeEngine(), test, tmp_path)


@pytest.mark.parametrize("account", [True, False], ids=["not clean", "never"])
def test_a_held_container_that_is_not_clean_is_removed_and_nothing_is_blamed_on_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, account: bool
) -> None:
    async def test(w: World, host: Host, told: Told) -> None:
        attempt, container, running = await held(w, host)
        if account:
            container.tell(event(container, "released", attempt.id, clean=False, memory=20 * MIB))
        await asyncio.wait_for(running, 30)
        await eventually_async(lambda: w.pool.used == 0, "the container to be removed")
        assert told.lost_ones == []

    monkeypatch.setattr("runner.pool._RELEASE", 0.05)
    with_host(FakeEngine(), test, tmp_path)


def test_a_sidecar_that_dies_between_finished_and_released_costs_the_container_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(w: World, host: Host, told: Told) -> None:
        _, container, running = await held(w, host)
        await asyncio.wait_for(running, 30)
        # the next sidecar is told of the container, and knows nothing of what it has still to say
        await register_again(host)
        container.tell(event(container, "connected"))
        assert (container.state, container.assignment) == ("busy", None)
        await eventually_async(lambda: w.pool.used == 0, "the container to be removed")
        assert told.lost_ones == []

    monkeypatch.setattr("runner.pool._RELEASE", 0.05)
    with_host(FakeEngine(), test, tmp_path)


def test_a_start_that_came_to_nothing_says_how_it_was_placed(tmp_path: Path) -> None:
    engine = FakeEngine()

    async def test(w: World, host: Host, told: Told) -> None:
        attempt = Attempt(host, w.assignment())
        running = asyncio.create_task(attempt.run())
        container = await container_of(w, attempt.id)
        engine.die(container.name, 3)
        container.tell(Died())
        await asyncio.wait_for(running, 30)
        (lost,) = told.lost_ones
        assert lost.placing is not None
        assert (lost.start, lost.placing.cause, lost.placing.container) == ("cold", "first", container.name)

    with_host(engine, test, tmp_path)


def test_an_attempt_hurries_while_it_is_handed_over_and_not_while_it_waits_for_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def life(w: World, host: Host) -> list[bool]:
        """Before it is placed, placed, begun, a moment later."""
        attempt = Attempt(host, w.assignment())
        seen = [attempt.hurries]
        with monkeypatch.context() as later:
            later.setattr("runner.attempt._HANDING", 0.0)
            assert not attempt.hurries  # a container that does not take its run keeps nobody waiting
        running = asyncio.create_task(attempt.run())
        container = await container_of(w, attempt.id)
        seen.append(attempt.hurries)
        if container.start == "cold":
            container.tell(event(container, "ready", memory=20 * MIB))
        container.tell(event(container, "started", attempt.id))
        await eventually_async(lambda: attempt._begun, "the run to have begun")
        seen.append(attempt.hurries)
        monkeypatch.setattr("runner.attempt._MOMENT", 0.0)
        seen.append(attempt.hurries)
        monkeypatch.setattr("runner.attempt._MOMENT", 3600.0)
        container.tell(event(container, "finished", attempt.id, outcome="completed", clean=True, memory=20 * MIB))
        await asyncio.wait_for(running, 30)
        return seen

    async def test(w: World, host: Host, told: Told) -> None:
        monkeypatch.setattr("runner.attempt._MOMENT", 3600.0)
        monkeypatch.setattr("runner.attempt._HANDING", 3600.0)
        assert await life(w, host) == [True, False, True, False]
        assert await life(w, host) == [True, True, True, False]

    with_host(FakeEngine(), test, tmp_path)


def test_no_more_is_claimed_than_can_be_handed_over(tmp_path: Path) -> None:
    """What attempts stand in the way, and how many more are asked for."""

    class Standing:
        def __init__(self, hurries: bool) -> None:
            self.hurries = hurries

    class Claimed(CoordinatorClient):
        def __init__(self) -> None:
            super().__init__("http://127.0.0.1:9", "k", "r")
            self.asked: list[int] = []

        async def claim(self, request: ClaimRequest) -> ClaimResponse:
            self.asked.append(request.most)
            return ClaimResponse(assignments=[], builds=[])

    async def test(w: World, host: Host, told: Told) -> None:
        pool: Any = w.pool
        agent: Any = Agent(pool._settings, FakeEngine(), Policy())
        claimed = Claimed()
        object.__setattr__(agent._host, "coordinator", claimed)
        most = agent._in_a_hurry
        assert most >= 2
        await agent._claim_runs()
        agent._attempts = {"slow": Standing(False), "quick": Standing(True)}
        await agent._claim_runs()
        assert claimed.asked == [min(8, most), min(8, most - 1)]
        agent._attempts = {str(number): Standing(True) for number in range(most)}
        claiming = asyncio.create_task(agent._claim_runs())
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(claimed.asked) == 2
        # nobody tells that it has begun: that is looked for
        agent._attempts["0"].hurries = False
        await asyncio.wait_for(claiming, 30)
        assert claimed.asked[2:] == [1]

    with_host(FakeEngine(), test, tmp_path)
